/* Two messages to one person by one sender, two workers: at most one is under way, and of one category they leave in order of acceptance.
     claim     lock_candidates: a snapshot finds a message that may go, locks its row (SKIP LOCKED) and tries the lane's advisory lock;
               under_way: a later statement looks for another of this person and sender that is claimed or marked; commit     store/dispatch.py
     mark, request, settle, rescue: as in message.pml, without their losses
   Checked:
     lane      never two claimed or marked, never two requests that the provider has not decided
     order     (SAME: both of one category) the later one is not claimed before the earlier has left, or was refused and has held its lane long enough
     end       no dead end: both leave */
#define NOBODY 2
mtype = { GONE, WAITING, CLAIMED, MARKED };
mtype row[2] = WAITING;
byte holder[2] = NOBODY, lock[2] = NOBODY, lane = NOBODY, undecided = 0, refusals = 1, kills = 1;
bool let_by = false;                         /* message 0 was refused, and has held its lane long enough */
bool lease[2] = false, alive[2] = true, due[2] = true, holds[2] = false, wire[2] = false;

#define UNDER_WAY(i) (row[i] == CLAIMED || row[i] == MARKED)
#if defined(SAME) && !defined(NO_HEAD)
#define MAY_GO(i) (row[i] == WAITING && due[i] && !UNDER_WAY(1 - i) && (i == 0 || row[0] == GONE || row[0] == WAITING && !due[0] && !holds[0]))
#else
#define MAY_GO(i) (row[i] == WAITING && due[i] && !UNDER_WAY(1 - i))
#endif

proctype worker(byte me) {
  byte i; bool alone, busy, refused;
end:
  do
  :: atomic { alive[me] && (MAY_GO(0) || MAY_GO(1)) ->
       if :: MAY_GO(0) -> i = 0 :: MAY_GO(1) -> i = 1 fi;
#ifdef SNAPSHOT_ONLY
       busy = UNDER_WAY(1 - i);
#endif
       printf("claim: worker %d finds message %d\n", me, i) }
     atomic {
       if
       :: alive[me] && row[i] == WAITING && due[i] && lock[i] == NOBODY ->
          lock[i] = me;
#ifdef NO_LANE
          alone = true;
#else
          alone = (lane == NOBODY);
          if :: alone -> lane = me :: else fi;
#endif
          printf("claim: worker %d locks message %d, alone in the lane %d\n", me, i, alone)
       :: else -> goto again
       fi }
#ifndef SNAPSHOT_ONLY
     atomic { busy = UNDER_WAY(1 - i); printf("claim: worker %d looks again: another under way %d\n", me, busy) }
#endif
     atomic {
       if
       :: alive[me] ->
          lock[i] = NOBODY;
          if :: lane == me -> lane = NOBODY :: else fi;
          if
          :: alone && !busy ->
             printf("claim: worker %d commits CLAIMED, message %d\n", me, i);
             assert(!UNDER_WAY(1 - i));
#ifdef SAME
             assert(i == 0 || row[0] == GONE || let_by);
#endif
             row[i] = CLAIMED; holder[i] = me; lease[i] = true
          :: else -> goto again
          fi
       :: else -> goto again
       fi }
     atomic { if :: alive[me] && row[i] == CLAIMED && holder[i] == me -> row[i] = MARKED :: else -> goto again fi }
     atomic { if :: alive[me] && lease[i] && row[i] == MARKED && holder[i] == me -> printf("request: message %d begins\n", i); undecided++; assert(undecided == 1); wire[i] = true :: else -> goto again fi }
     atomic { if :: refusals > 0 -> refusals--; refused = true :: true fi; undecided--; wire[i] = false }
     atomic {
       if
       :: alive[me] && row[i] == MARKED && holder[i] == me ->
          holder[i] = NOBODY; lease[i] = false;
          if :: refused -> printf("settle: message %d waits again\n", i); row[i] = WAITING; due[i] = false; holds[i] = true :: else -> printf("settle: message %d is sent\n", i); row[i] = GONE fi
       :: else
       fi }
again: atomic { i = 0; alone = false; busy = false; refused = false }
  od
}
active proctype clock() {
end:
  do
  :: atomic { lease[0] && !wire[0] -> lease[0] = false }
  :: atomic { lease[1] && !wire[1] -> lease[1] = false }
  :: atomic { holds[0] -> holds[0] = false; let_by = true; printf("clock: message 0 holds the lane no longer\n") }
  :: atomic { holds[1] -> holds[1] = false }
  :: atomic { !due[0] -> due[0] = true }
  :: atomic { !due[1] -> due[1] = true }
  od
}
active proctype rescue() {
  byte i;
end:
  do
  :: atomic { UNDER_WAY(0) && !lease[0] || UNDER_WAY(1) && !lease[1] ->
       if :: UNDER_WAY(0) && !lease[0] -> i = 0 :: UNDER_WAY(1) && !lease[1] -> i = 1 fi;
       if :: row[i] == CLAIMED -> row[i] = WAITING :: else -> row[i] = GONE fi;
       holder[i] = NOBODY; i = 0 }
  od
}
active proctype faults() {
  byte one;
end:
  do
  :: atomic { kills > 0 -> kills--; if :: one = 0 :: one = 1 fi; printf("kill: worker %d\n", one); alive[one] = false;
       if :: lock[0] == one -> lock[0] = NOBODY :: else fi; if :: lock[1] == one -> lock[1] = NOBODY :: else fi; if :: lane == one -> lane = NOBODY :: else fi; one = 0 }
  od
}
active proctype both_left() { row[0] == GONE && row[1] == GONE }
init { atomic { run worker(0); run worker(1) } }
