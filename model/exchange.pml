/* The key that people are hashed with is exchanged: a person has two ids, a STOP is written under both, a message bears one.
     write     holds the row of the versions; are they those that this process has read? else it reads again; commit: the STOP under
               each                                                                                        store/consents.py, store/subject_keys.py
     add       waits for all who hold that row; commit: there are two versions                             store/subject_keys.py add
     copy      what stands under the first alone stands under the second too, in force: nothing bears it    store/subject_keys.sql copy
     use       only then intake keeps messages under the second; a process that is late does not           store/subject_keys.py use
     intake    a message, under a version                                                                  store/intake.py
     claim     locks the row; a later statement reads consent, of the id that it bears; commit             store/dispatch.py
     mark, block, under_way, put_in_force   as in message.pml, under each id; under the first last          flow/stop.py
   Checked:
     P3        no request begins once the STOP is in force, which its row under the first id tells
     end       no dead end: the STOP is in force, the messages are gone */
#define NOBODY 255
#ifndef MESSAGES
#define MESSAGES 2
#endif
mtype = { NONE, WAITING, CLAIMED, MARKED, GONE };
mtype row = NONE;
byte by = 0, lock = NOBODY, known = 1, used = 1, holders = 0, taken_in = 0;
bool out[2], force[2], in_force = false;

proctype worker(byte me) {
  bool stopped;
end:
  do
  :: atomic { row == WAITING && lock == NOBODY -> lock = me; printf("claim: worker %d locks the message, under id %d\n", me, by + 1) }
     atomic { stopped = out[by]; printf("claim: worker %d reads consent of id %d: opted out %d\n", me, by + 1, stopped) }
     atomic {
       lock = NOBODY;
       if :: stopped -> row = GONE; printf("claim: blocked\n"); goto again :: else -> row = CLAIMED; printf("claim: worker %d commits\n", me) fi }
     atomic { if :: row == CLAIMED && lock == NOBODY -> row = MARKED; printf("mark: worker %d\n", me) :: row != CLAIMED -> goto again fi }
     atomic { printf("request: worker %d begins\n", me); assert(!(in_force)) }
     atomic { row = GONE; printf("settle: accepted\n") }
again: stopped = false
  od
}
active proctype intake() {
  byte kept;
end:
  do
  :: atomic { taken_in < MESSAGES -> if :: kept = 0 :: used == 2 -> kept = 1 fi; printf("intake: keeps the next under id %d\n", kept + 1) }
     atomic { row == NONE || row == GONE -> taken_in++; row = WAITING; by = kept; kept = 0; printf("intake: takes it in\n") }
  od
}
active proctype exchange() {
#ifdef COPY_FIRST
  atomic { if :: out[0] -> out[1] = true; force[1] = true; printf("copy: the STOP\n") :: else -> printf("copy: nothing to copy\n") fi }
#endif
#ifndef NO_LOCK
  atomic { holders == 0 -> known = 2; printf("add: a second version\n") }
#else
  atomic { known = 2; printf("add: a second version\n") }
#endif
#ifdef USE_FIRST
  atomic { used = 2; printf("use: the second\n") }
#endif
#ifndef COPY_FIRST
  atomic { if :: out[0] && !out[1] -> out[1] = true; force[1] = true; printf("copy: the STOP\n") :: else -> printf("copy: nothing to copy\n") fi }
#endif
  atomic { used = 2; printf("use: the second\n") }
}
inline enforce(id) {
  atomic { sees = by == id && (row == WAITING || row == CLAIMED); printf("STOP: block sees a message under id %d: %d\n", id + 1, sees) }
  if
  :: sees -> atomic { lock == NOBODY ->
       if :: by == id && (row == WAITING || row == CLAIMED) -> row = GONE; printf("STOP: blocked\n") :: else fi }
  :: else
  fi;
#ifdef FIRST_FIRST
  atomic { !(row == MARKED && by == id) ->
#else
  atomic { !(row == MARKED && by == id) && (id == 1 || force[1] || !out[1]) ->
#endif
           force[id] = true; printf("STOP: in force under id %d\n", id + 1);
           if :: id == 0 -> in_force = true :: else fi; sees = false }
}
active proctype stop() {
  byte knows = 1; bool sees;
hold:
#ifndef NO_HOLD
  atomic { holders++; if :: knows != known -> holders--; knows = known; printf("write: reads the versions again\n"); goto hold :: else -> printf("write: knows %d\n", knows) fi }
#endif
  atomic { out[0] = true; out[1] = out[1] || knows == 2; printf("write: STOP under %d\n", knows);
#ifndef NO_HOLD
           holders--
#endif
         }
#ifdef FIRST_FIRST
  enforce(0);
  if :: knows == 2 -> enforce(1) :: else fi
#else
  if :: knows == 2 -> enforce(1) :: else fi;
  enforce(0)
#endif
}
active proctype ended() { taken_in == MESSAGES && row == GONE && in_force }
init { atomic { run worker(0); run worker(1) } }
