/* The web is away for a while, twice; somebody texts STOP, somebody else texts another word. A text that finds the web away is not repeated
   by the provider, which keeps it in its list.
     listen    texts are stored as they come                                                             app/process.py
     raise     then the barrier is raised, with its moment                                               flow/catch_up.py ensure
     read      the list since the last read that was complete; whatever is missing is applied            flow/catch_up.py finish
     lower     the barrier goes, unless it was raised again; from then on lists are read since its moment   store/control.py lower
     refresh   reads the list now and then, without a barrier                                            flow/catch_up.py refresh
     claim     not while the barrier stands                                                              store/dispatch.py claim
   Checked:
     missed    once the web is back and has raised the barrier, nothing is claimed for a person whose STOP it missed until that is applied
     end       no dead end: in the end the barrier is gone and the STOP applied */
byte outages = 2, refreshes = 1;
byte texts = 0, stop_at = 0;                /* texts so far, which is also the provider's time; which of them is the STOP */
byte stored = 0, since = 0, raised = 0, raised_at = 0, back_at = 0;
bool barrier = false, listening = true, missed = false, applied = false, returned = false;

active proctype people() {
end:
  do
  :: atomic { texts < 2 ->
       texts++;
       if :: listening -> stored = texts; printf("text %d is stored\n", texts) :: else -> printf("text %d finds the web away\n", texts) fi;
       if :: stop_at == 0 -> stop_at = texts; missed = !listening; applied = listening; printf("text %d is the STOP\n", texts) :: true fi }
  od
}
#ifdef SINCE_STORED
#define SINCE stored
#else
#define SINCE since
#endif
inline read_list(from) { atomic { printf("read: the list after text %d\n", from); if :: stop_at > from -> applied = true :: else fi } }
inline lower() {
  barrier = false; printf("lower: the barrier goes\n");
#ifdef LOWER_LATE
  since = texts
#else
  since = raised_at
#endif
}
#ifdef LOWER_ALWAYS
#define STILL true
#else
#define STILL (raised == mine)
#endif

active proctype web() {
  byte mine;
end:
  do
  :: atomic { outages > 0 -> outages--; listening = false; returned = false; printf("web: gone\n") }
#ifndef LIST_FIRST
     atomic { listening = true; back_at = texts; printf("listen: the web is back\n") }
#endif
     atomic {
       returned = true; raised++; mine = raised; raised_at = texts;
#ifndef NO_BARRIER
       barrier = true; printf("raise: the barrier stands\n");
#endif
       skip }
     if :: outages > 0 -> goto again :: read_list(SINCE) fi;
#ifdef LIST_FIRST
     atomic { listening = true; back_at = texts; printf("listen: the web is back\n") }
#endif
     atomic { if :: barrier && STILL -> lower() :: else fi }
again: mine = 0
  od
}
active proctype sweep() {
  byte mine, from;
end:
  do
#ifndef LIST_FIRST
  :: atomic { barrier -> mine = raised; from = SINCE; printf("sweep: finds a barrier\n") }
     read_list(from);
     atomic { if :: barrier && STILL -> lower() :: else fi; mine = 0; from = 0 }
#endif
  :: atomic { !barrier && refreshes > 0 -> refreshes--; mine = texts; from = SINCE; printf("refresh: at text %d\n", mine) }
     read_list(from);
     atomic { if :: !barrier && mine > since -> since = mine :: else fi; mine = 0; from = 0 }
  od
}
active proctype worker() {
end:
  do
  :: atomic { !barrier -> assert(!(returned && missed && !applied && stop_at <= back_at)) }
  od
}
active proctype caught_up() { outages == 0 && listening && !barrier && (stop_at == 0 || applied) }
