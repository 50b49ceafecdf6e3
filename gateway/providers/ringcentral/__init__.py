"""RingCentral. :mod:`gateway.providers.ringcentral.provider` has the class that fulfils the port; all else here serves it alone."""
