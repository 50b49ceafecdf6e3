/* Three events in the outbox, two relays, one of which may die. Events 1 and 2 are of one person, in this order; event 0 is of another, takes
   its id first and may commit last. Ids are taken before the commit: they become visible in any order.
     change    a message changes and its event is written, in one transaction                            store/ledger.py apply
     hold      one process at a time holds the name: for a while, by the database's clock                flow/leading.py
     take      what is there, in the order of ids; no cursor                                             store/outbox.py take
     publish   in this order, only while the holder's own time is not over                               flow/relay.py
     remove    after the broker's acknowledgement, in a transaction that holds the name                  store/outbox.py remove
   Checked:
     end       no dead end: every change's event is published, and of one person the newest is published last
   Events may be published more than once; a reader drops versions older than it has. */
#define NOBODY 2
bool changed[3] = false, there[3] = false, published[3] = false;
byte last = 0, holder = NOBODY, kills = 1;
bool dead_writer = false, lease = false, own[2] = false, alive[2] = true;

proctype writer(byte first, most) {
  byte id = first;
end:
  do
  :: id <= most ->
#ifdef TWO_TRANSACTIONS
     atomic { changed[id] = true; printf("change: %d commits without its event\n", id) }
     if :: true :: kills > 0 -> kills--; dead_writer = true; printf("kill: a writer\n"); break fi;
     atomic { there[id] = true; printf("change: event %d commits\n", id) }
#else
     atomic { changed[id] = true; there[id] = true; printf("change: event %d commits\n", id) }
#endif
     id++
  :: id > most -> break
  od
}

#ifdef CURSOR
byte cursor = 0;                             /* the next id */
#define VISIBLE(id) (there[id] && id >= cursor)
#else
#define VISIBLE(id) there[id]
#endif

#define SOMETHING (VISIBLE(0) || VISIBLE(1) || VISIBLE(2))

inline publish(id) {
  if
  :: taken[id] ->
     atomic {
       if
#ifdef NO_LIMIT
       :: alive[me] -> published[id] = true; if :: id > 0 -> last = id :: else fi; printf("publish: relay %d event %d\n", me, id)
#else
       :: alive[me] && own[me] -> published[id] = true; if :: id > 0 -> last = id :: else fi; printf("publish: relay %d event %d\n", me, id)
#endif
       :: else -> goto again
       fi }
  :: else
  fi
}
proctype relay(byte me) {
  bool taken[3];
end:
  do
  :: atomic { alive[me] && !own[me] && SOMETHING && (holder == NOBODY || holder == me || !lease) -> holder = me; lease = true; own[me] = true; printf("hold: relay %d\n", me) }
  :: atomic { alive[me] && own[me] && SOMETHING ->
       taken[0] = VISIBLE(0); taken[1] = VISIBLE(1); taken[2] = VISIBLE(2);
       printf("take: relay %d takes %d %d %d\n", me, taken[0], taken[1], taken[2]);
#ifdef REMOVE_FIRST
       there[0] = there[0] && !taken[0]; there[1] = there[1] && !taken[1]; there[2] = there[2] && !taken[2];
#endif
     }
     publish(0);
     publish(1);
     publish(2);
     atomic {
       if
#ifdef REMOVE_ANYWAY
       :: alive[me] ->
#else
       :: alive[me] && holder == me && lease ->
#endif
#ifdef CURSOR
          cursor = (taken[2] -> 3 : (taken[1] -> 2 : 1));
#endif
          there[0] = there[0] && !taken[0]; there[1] = there[1] && !taken[1]; there[2] = there[2] && !taken[2]; printf("remove: relay %d\n", me)
       :: else
       fi }
again: atomic { taken[0] = false; taken[1] = false; taken[2] = false }
  od
}
active proctype clock() {
end:
  do
  :: atomic { own[0] -> own[0] = false; printf("clock: relay 0 publishes no longer\n") }
  :: atomic { own[1] -> own[1] = false; printf("clock: relay 1 publishes no longer\n") }
  :: atomic { lease && (holder == NOBODY || !own[holder]) -> lease = false; printf("clock: the name is free\n") }
  od
}
active proctype faults() {
  byte one;
end:
  do
  :: atomic { kills > 0 -> kills--; if :: one = 0 :: one = 1 fi; alive[one] = false; own[one] = false; printf("kill: relay %d\n", one); one = 0 }
  od
}
/* The newest change of each person that was made is published, and last. */
#define TOLD(id) (!changed[id] || published[id])
active proctype all_told() { changed[0] && (changed[2] || dead_writer) && TOLD(0) && TOLD(1) && TOLD(2) && last == (changed[2] -> 2 : (changed[1] -> 1 : 0)) && !SOMETHING }
init { atomic { run writer(0, 0); run writer(1, 2); run relay(0); run relay(1) } }
