/* One message, which may leave by sender A or B, and a STOP to one of them alone.
     claim     locks the row; a later statement reads consent, for the sender that it finds; commit: claimed, or blocked     store/dispatch.py
     mark      still claimed? then marked                                                                                    store/dispatch.py
     settle    of a refusal: waits again, by the other sender                                                                domain/changes.py
     reroute   locks a row that waits; commit: the other sender                                                              store/routing.sql
     STOP      written; block: a snapshot looks for the row by its sender, waits for its lock and looks at it again; a new statement looks
               for it marked by that sender; in force                                                                        flow/stop.py
   Rows are read as PostgreSQL's READ COMMITTED does: what is not committed is not seen, what was locked is looked at again.
   Checked:
     P3        no request by that sender begins once the STOP is in force
     end       no dead end: the message leaves, the STOP is in force */
#define NOBODY 255
mtype = { GONE, WAITING, CLAIMED, MARKED };
mtype row = WAITING;
byte by = 0, lock = NOBODY, moves = 2, refusals = 2, stopped = 0;
bool written = false, in_force = false;

/* The sender that the worker has in its hands: what it claimed with. */
proctype worker(byte me) {
  byte mine; bool out;
end:
  do
  :: atomic { row == WAITING && lock == NOBODY ->
       lock = me; mine = by;
#ifdef CLAIM_MOVES
       if :: moves > 0 -> moves--; mine = 1 - by; printf("claim: worker %d chooses sender %d\n", me, mine) :: true fi;
#endif
       printf("claim: worker %d locks the message, by sender %d\n", me, mine) }
     atomic { out = written && stopped == mine; printf("claim: worker %d reads consent: opted out %d\n", me, out) }
     atomic {
       lock = NOBODY; by = mine;
       if :: out -> row = GONE; printf("claim: blocked\n"); goto again :: else -> row = CLAIMED; printf("claim: worker %d commits\n", me) fi }
     atomic { if :: row == CLAIMED && lock == NOBODY -> row = MARKED; printf("mark: worker %d\n", me) :: row == GONE -> goto again fi }
     atomic { printf("request: worker %d begins, by sender %d\n", me, mine); if :: stopped == mine -> assert(!(in_force)) :: else fi }
     atomic {
       if
       :: row = GONE; printf("settle: accepted\n")
       :: refusals > 0 -> refusals--; row = WAITING; by = 1 - mine; printf("settle: refused, waits for sender %d\n", by)
       fi }
again: mine = 0; out = false
  od
}
active proctype rerouting() {
end:
  do
  :: atomic { moves > 0 && lock == NOBODY &&
#ifdef MOVE_CLAIMED
              (row == WAITING || row == CLAIMED)
#else
              row == WAITING
#endif
              -> moves--; lock = 7; printf("reroute: locks the message\n") }
     atomic { by = 1 - by; lock = NOBODY; printf("reroute: sender %d\n", by) }
  od
}
active proctype stop() {
  bool sees;
  atomic { if :: stopped = 0 :: stopped = 1 fi; printf("the STOP is to sender %d\n", stopped) }
  atomic { written = true; printf("STOP: written\n") }
  atomic { sees = by == stopped && (row == WAITING || row == CLAIMED); printf("STOP: block sees it %d\n", sees) }
  if
  :: sees -> atomic { lock == NOBODY ->
       if :: by == stopped && (row == WAITING || row == CLAIMED) -> row = GONE; printf("STOP: blocked\n") :: else fi }
  :: else
  fi;
  atomic { !(row == MARKED && by == stopped) -> in_force = true; printf("STOP: in force\n") }
}
active proctype ended() { row == GONE && in_force }
init { atomic { run worker(0); run worker(1) } }
