/* One message to one person: intake, two workers, the provider and what it reports, STOP and START; and what goes wrong at any moment:
   a worker is killed, a database session is lost, the answer to a COMMIT is lost or a statement commits after its worker gave it up,
   any process sleeps as long as it likes, the process that handles a STOP dies. Each step is one committed statement or transaction and
   has its name in the code:

     intake    reads consent, and later inserts: WAITING, or blocked                                     flow/intake.py
     claim     locks the row (SKIP LOCKED); reads consent in a later statement; commits CLAIMED          store/dispatch.py claim
     mark      compare-and-set on attempt, worker, CLAIMED and lease: MARKED, with a new lease           store/dispatch.py mark
     request   begins only while the worker's own lease has T + F left; the fuse kills a process that
               sleeps between look and request                                                           flow/dispatch.py, flow/fuse.py
     settle    accepted: sent; else a compare-and-set on attempt and MARKED: WAITING (surely refused),
               blocked (opted out, and the opt-out is learned), or unknown                               domain/changes.py settle
     put back  an attempt that has surely not begun (too late, no slot, no answer to its mark) waits again   flow/dispatch.py _put_back
     rescue    the lease is over: CLAIMED waits again, MARKED ends unknown                               domain/changes.py rescue
     compare   a worker finds in its name what it does not have in its hands: rescued at once            flow/dispatch.py _take_up_lost
     evidence  a receipt or the provider's list proves acceptance, whatever the row's state              domain/changes.py report, prove
     end       an operator's cancel, or expires_at: what is not marked ends                              domain/changes.py end
     stop      write; block (waits for locks); under_way (a new statement); put_in_force                 flow/stop.py
     sweep     puts in force what others wrote and left                                                  flow/stop.py finish_pending
     start     undoes an opt-out only when it was provably said later                                    store/consents.py opt_in

   Checked in all interleavings:
     P2     the provider accepts at most once
     P3     no request begins and none is accepted from in force until the person's later START; nothing else undoes a STOP
     told   a state never moves back; what is told as blocked or ended was not accepted, what is told as sent was
     end    no dead end: the message has its outcome, and a written STOP is in force or undone

   A safeguard is taken out with -D; model/check names them and what each must break. */

#ifndef KILLS
#define KILLS 1         /* workers that are killed */
#endif
#ifndef LOSSES
#define LOSSES 1        /* sessions or answers lost */
#endif
#ifndef REFUSALS
#define REFUSALS 1      /* sure refusals by the provider */
#endif
#ifndef CLAIMS
#define CLAIMS 2        /* attempts of the message */
#endif
#define NOBODY 2

mtype = { NONE, WAITING, CLAIMED, MARKED };                                     /* the row in queue */
mtype = { ACCEPTED, UNKNOWN, SENT, DELIVERED, BLOCKED, ENDED };                 /* the state in messages */
mtype = { QUIET, BEGUN, ANSWERED };                                             /* a worker's request */
mtype = { IS_ACCEPTED, IS_LATER, IS_OPTED_OUT, IS_UNKNOWN, IS_NOT_BEGUN };      /* its outcome */

mtype row = NONE, message = NONE;
byte attempt = 0, holder = NOBODY, lock = NOBODY;
bool lease = false;                         /* the row's lease, by the database's clock */
bool own[2] = false;                        /* a worker's own lease: T + F are left; it ends before the row's */
byte hands[2] = 0;                          /* the attempt that a worker has in its hands; 0: none */
bool turn[2] = false;                       /* a worker's loop is in a claim or a compare: it does one at a time */
bool alive[2] = true;
mtype wire[2] = QUIET, outcome[2] = IS_UNKNOWN;
byte stray = 0, stray_of = NOBODY;          /* a mark that its worker gave up, and PostgreSQL has not finished: its attempt */
byte kills = KILLS, losses = LOSSES, refusals = REFUSALS;

bool opted_out = false, in_force = false;   /* the row in consents; version 0: there is none */
byte version = 0, stated_at = 0, stop_text = 0;
byte now = 1;

byte accepted = 0;                          /* how often the provider took it; it proves the attempt */

#if !defined(ONLY) || ONLY == 2
#define P2 assert(accepted <= 1)
#else
#define P2 skip
#endif
#if !defined(ONLY) || ONLY == 3
#define P3 assert(!in_force)
#define UNDONE assert(text > stop_text)
#else
#define P3 skip
#define UNDONE skip
#endif
#define MAY_MOVE(state) (message == ACCEPTED && state != ACCEPTED || message == UNKNOWN && (state == SENT || state == DELIVERED) || message == SENT && state == DELIVERED)
#define IS_TRUE(state)  ((state != BLOCKED && state != ENDED || accepted == 0) && (state != SENT && state != DELIVERED || accepted > 0))
#ifndef ONLY
#define TOLD(state) assert(MAY_MOVE(state)); assert(IS_TRUE(state))
#else
#define TOLD(state) skip
#endif

#ifdef WITNESS
#define AT(place) assert(WITNESS != place)      /* shows that the place can be reached: a model in which nothing happens breaks nothing */
#else
#define AT(place) skip
#endif

inline move(state) { TOLD(state); message = state }
inline leave(state) { row = NONE; holder = NOBODY; lease = false; move(state) }
inline put_back() { row = WAITING; holder = NOBODY; lease = false }
inline write_opt_out(moment) {
  if :: !opted_out -> opted_out = true; version++; in_force = false :: else fi;
  if :: moment > stated_at -> stated_at = moment :: else fi
}

#define MINE(state) (row == state && holder == me && attempt == hands[me])
#ifdef NO_MARK
#define ON_THE_WIRE CLAIMED
#else
#define ON_THE_WIRE MARKED
#endif
#ifdef NO_ATTEMPT
#define HOLDS_THE_MARK (row == ON_THE_WIRE)
#else
#define HOLDS_THE_MARK MINE(ON_THE_WIRE)
#endif
#define CLAIMABLE (alive[me] && !turn[me] && row == WAITING && attempt < CLAIMS)

proctype worker(byte me) {
  bool seen = false; byte got = 0;
end:
  do
#ifdef EARLY_READ
  :: atomic { CLAIMABLE -> seen = opted_out; printf("claim: worker %d reads consent: opted out %d\n", me, seen) }
     atomic { if :: CLAIMABLE && lock == NOBODY -> turn[me] = true; lock = me; printf("claim: worker %d locks the row\n", me) :: else -> seen = false; goto again fi }
#else
  :: atomic { CLAIMABLE && lock == NOBODY -> turn[me] = true; lock = me; printf("claim: worker %d locks the row\n", me) }
#endif
#if !defined(EARLY_READ) && !defined(NO_READ)
     atomic { seen = opted_out; printf("claim: worker %d reads consent: opted out %d\n", me, seen) }
#endif
     atomic {
       if
       :: alive[me] && lock == me ->
          lock = NOBODY;
          if
          :: seen -> seen = false; printf("claim: worker %d commits blocked\n", me); leave(BLOCKED); goto again
          :: else -> attempt++; row = CLAIMED; holder = me; lease = true; got = attempt; printf("claim: worker %d commits CLAIMED, attempt %d\n", me, attempt)
          fi;
          if :: true :: losses > 0 -> losses--; printf("claim: worker %d gets no answer\n", me); goto again fi
       :: else -> seen = false; goto again
       fi }
     atomic { hands[me] = got; got = 0; turn[me] = false }
#ifdef NO_MARK
     own[me] = true;
#else
     atomic {
       if
       :: alive[me] && MINE(CLAIMED) && lease ->
          if
          :: row = MARKED; own[me] = true; printf("mark: worker %d commits MARKED, attempt %d\n", me, hands[me])
          :: losses > 0 -> losses--; row = MARKED; printf("mark: worker %d commits MARKED, attempt %d, and gets no answer\n", me, hands[me])
          :: losses > 0 -> losses--; stray = hands[me]; stray_of = me; printf("mark: worker %d gives it up, PostgreSQL has it still\n", me)
          fi
       :: else -> goto again
       fi }
#endif
#ifdef NO_FUSE
     if :: atomic { alive[me] && own[me] -> printf("request: worker %d sees enough time left, and sleeps\n", me) } :: else -> own[me] = true; goto too_late fi;
     atomic {
       if
       :: alive[me] ->
#else
     atomic {
       if
       :: alive[me] && own[me] ->
#endif
          printf("request: worker %d begins, attempt %d\n", me, hands[me]);
          P3;
          if :: version > 1 -> AT(96) :: else fi;
          wire[me] = BEGUN
       :: alive[me] && (!own[me] || refusals > 0) ->
          if :: own[me] -> refusals-- :: else fi;              /* marked ahead, and no slot fell free: as bounded as refusals are */
too_late: wire[me] = ANSWERED; outcome[me] = IS_NOT_BEGUN; printf("put back: worker %d begins none: too late, no slot, or no answer to its mark\n", me)
       :: else -> goto again
       fi }
settle:
     atomic {
       if
       :: alive[me] && wire[me] == ANSWERED ->
          if
          :: outcome[me] == IS_ACCEPTED && MAY_MOVE(SENT) -> printf("settle: worker %d: sent\n", me); if :: row != NONE -> leave(SENT) :: else -> AT(91); move(SENT) fi
          :: outcome[me] == IS_LATER && HOLDS_THE_MARK -> printf("settle: worker %d, attempt %d: refused, WAITING again\n", me, hands[me]); put_back()
          :: outcome[me] == IS_NOT_BEGUN && (HOLDS_THE_MARK || MINE(CLAIMED)) -> printf("put back: worker %d, attempt %d: WAITING again\n", me, hands[me]); put_back()
          :: outcome[me] == IS_OPTED_OUT && HOLDS_THE_MARK -> printf("settle: worker %d: opted out, blocked\n", me); leave(BLOCKED)
          :: outcome[me] == IS_UNKNOWN && HOLDS_THE_MARK -> printf("settle: worker %d: unknown\n", me); leave(UNKNOWN)
#ifdef WAIT_AGAIN
          :: outcome[me] == IS_LATER && row == NONE && message == UNKNOWN -> printf("settle: worker %d, late: refused, WAITING again\n", me); put_back(); move(ACCEPTED)
#endif
          :: else -> printf("settle: worker %d, attempt %d: changes nothing\n", me, hands[me]); if :: outcome[me] == IS_LATER && message == UNKNOWN -> AT(92) :: else fi
          fi;
          if :: true :: losses > 0 -> losses--; printf("settle: worker %d gets no answer\n", me); goto settle fi
       :: !alive[me] -> skip
       fi }
     atomic { if :: alive[me] && outcome[me] == IS_OPTED_OUT && !opted_out -> printf("stop: learned from the provider, written\n"); write_opt_out(now) :: else fi }
again: atomic { hands[me] = 0; own[me] = false; turn[me] = false; got = 0; wire[me] = QUIET; outcome[me] = IS_UNKNOWN }
  od
}

/* The provider accepts, refuses, or says nothing; its answer may be lost. A killed worker's request may still be accepted. */
active proctype provider() {
  byte one;
end:
  do
  :: atomic { (wire[0] == BEGUN || wire[1] == BEGUN) ->
       if :: wire[0] == BEGUN -> one = 0 :: wire[1] == BEGUN -> one = 1 fi;
       if
       :: accepted++; printf("provider: accepts\n"); P2; P3;
          if :: outcome[one] = IS_ACCEPTED :: outcome[one] = IS_UNKNOWN; printf("provider: its answer is lost\n") fi
       :: refusals > 0 -> refusals--; outcome[one] = IS_LATER; printf("provider: surely refuses\n")
#ifndef START
       :: refusals > 0 -> refusals--; outcome[one] = IS_OPTED_OUT; printf("provider: says opted out\n")
       :: outcome[one] = IS_UNKNOWN; printf("provider: neither accepts nor answers\n")
#endif
       fi;
       wire[one] = ANSWERED; one = 0 }
  od
}

#ifndef START
/* Any time after acceptance, also before the answer to the request, and more than once. */
active proctype evidence() {
end:
  do
  :: atomic { accepted > 0 && MAY_MOVE(SENT) -> printf("evidence: sent\n"); if :: row != NONE -> leave(SENT) :: else -> move(SENT) fi }
  :: atomic { accepted > 0 && MAY_MOVE(DELIVERED) -> printf("evidence: delivered\n"); if :: row != NONE -> AT(93); leave(DELIVERED) :: else -> move(DELIVERED) fi }
  od
}
#endif

active proctype intake() {
  bool seen;
  atomic { seen = opted_out; printf("intake: reads consent: opted out %d\n", seen) }
  atomic { if :: seen -> message = BLOCKED; printf("intake: commits blocked\n") :: else -> row = WAITING; message = ACCEPTED; printf("intake: commits WAITING\n") fi; seen = false }
}

/* A row's lease is over only after the worker's own, and after a request that began under it: T is the request's whole time. */
#ifdef NO_MARGIN
#define HELD (row == ON_THE_WIRE && holder != NOBODY && own[holder])
#define RUNS_OUT(one) (own[one])
#else
#define HELD (row == ON_THE_WIRE && holder != NOBODY && (own[holder] || wire[holder] == BEGUN))
#define RUNS_OUT(one) (own[one] && wire[one] != BEGUN)
#endif
active proctype clock() {
end:
  do
  :: atomic { RUNS_OUT(0) -> own[0] = false; printf("clock: worker 0 has too little left\n") }
  :: atomic { RUNS_OUT(1) -> own[1] = false; printf("clock: worker 1 has too little left\n") }
  :: atomic { lease && !HELD -> lease = false; printf("clock: the lease is over\n") }
  od
}

active proctype faults() {
  byte one;
end:
  do
  :: atomic { kills > 0 -> kills--; if :: one = 0 :: one = 1 fi; printf("kill: worker %d\n", one);
       alive[one] = false; if :: lock == one -> lock = NOBODY :: else fi; if :: wire[one] == QUIET -> own[one] = false :: else fi; one = 0 }
  :: atomic { losses > 0 && lock != NOBODY -> losses--; printf("session of worker %d is lost\n", lock); lock = NOBODY }
  :: atomic { stray > 0 -> if :: row == CLAIMED && attempt == stray && holder == stray_of && lease -> row = MARKED; printf("mark: attempt %d commits MARKED, late\n", stray); AT(95) :: else fi;
       stray = 0; stray_of = NOBODY }
  od
}

#ifdef EAGER_RESCUE
#define OVER true
#else
#define OVER (!lease)
#endif
#ifndef NO_RESCUE
active proctype rescue() {
end:
  do
  :: atomic { row == CLAIMED && !lease -> printf("rescue: WAITING again\n"); put_back() }
  :: atomic { row == MARKED && OVER ->
#ifdef RESEND
       printf("rescue: WAITING again\n"); put_back()
#else
       printf("rescue: unknown\n"); leave(UNKNOWN)
#endif
     }
  od
}
#endif

#ifdef COMPARE
#ifdef BESIDE
#define FREE true
#else
#define FREE (!turn[me])
#endif
proctype compare(byte me) {
  byte found;
end:
  do
  :: atomic { alive[me] && FREE && (row == CLAIMED || row == MARKED) && holder == me && attempt != hands[me] ->
       found = attempt; printf("compare: worker %d finds attempt %d in its name, not in its hands\n", me, found);
#ifndef BESIDE
       turn[me] = true
#endif
     }
     atomic {
       if
       :: alive[me] && row == CLAIMED && attempt == found -> printf("compare: WAITING again\n"); put_back()
       :: alive[me] && row == MARKED && attempt == found -> printf("compare: unknown\n"); leave(UNKNOWN)
       :: else
       fi;
#ifndef BESIDE
       turn[me] = false;
#endif
       found = 0 }
  od
}
#endif

/* The steps of a STOP after it is written; mine is the version of the opt-out that they are for. */
inline enforce() {
#ifndef NO_BLOCK
  atomic { matched = (row == WAITING || row == CLAIMED); saw_marked = (row == MARKED); printf("stop: block looks: row %d locked %d\n", row != NONE, lock != NOBODY) }
  atomic { !matched || lock == NOBODY ->
    if :: matched && (row == WAITING || row == CLAIMED) -> printf("stop: block commits blocked\n"); if :: row == CLAIMED -> AT(94) :: else fi; leave(BLOCKED) :: else fi;
    matched = false }
#endif
#ifdef ONE_TRANSACTION
  atomic { printf("stop: write and block commit\n"); write_opt_out(now); mine = version }
#endif
#if defined(OLD_SNAPSHOT)
  !saw_marked || row != MARKED || !lease;
#elif !defined(NO_WAIT)
  row != MARKED || !lease;
#endif
  atomic {
    saw_marked = false;
#ifdef NO_VERSION
    if :: opted_out ->
#else
    if :: opted_out && version == mine ->
#endif
      in_force = true; printf("stop: in force\n")
    :: else
    fi }
}

proctype stop(byte text) {
  byte mine; bool matched, saw_marked;
  now >= text;
#ifdef ONE_TRANSACTION
  enforce()
#else
#ifdef START
  mine = now;                               /* the statement's time, before it commits */
  atomic { printf("stop: written, said at %d\n", mine); write_opt_out(mine); if :: text > stop_text -> stop_text = text :: else fi; mine = version }
#else
  atomic { printf("stop: written\n"); write_opt_out(now); mine = version }
#endif
  if :: enforce() :: printf("stop: its process dies\n") fi
#endif
}

#ifndef NO_SWEEP
active proctype sweep() {
  byte mine; bool matched, saw_marked;
end:
  do
  :: atomic { opted_out && !in_force -> mine = version }
     enforce();
     mine = 0
  od
}
#endif

#ifdef START
/* The person texts START at 1, STOP at 2, START at 4 and STOP at 5. A webhook carries no time, comes late and is repeated: a STOP is taken
   to be said when it arrives; of a START the provider is asked when it was made, unless no opt-out stood. */
inline write_opt_in() {
  if :: opted_out -> printf("start: undoes the opt-out\n"); UNDONE :: else fi;
  version++; opted_out = false; in_force = false
}
active proctype time() { end: do :: now < 5 -> now++ od }
active proctype start() {
  byte text, said;                          /* said 0: not asked */
end:
  do
  :: atomic { if :: text = 1 :: now >= 4 -> text = 4 fi;
#ifdef OLD_START
       said = now;
#else
       if :: opted_out -> said = text :: else ->
#ifdef NOT_ASKED
         said = now
#else
         said = 0
#endif
       fi;
#endif
       printf("start: texted at %d, taken to be said at %d; opted out %d\n", text, said, opted_out) }
     atomic {
       if
       :: version == 0 -> printf("start: finds no row to lock\n")
       :: version > 0 && opted_out && said <= stated_at -> printf("start: not proven\n"); goto done
       :: version > 0 && !opted_out -> goto done
       :: version > 0 && opted_out && said > stated_at -> write_opt_in(); goto done
       fi }
     atomic {
#ifdef UNGUARDED
       write_opt_in()
#else
       if :: opted_out && said <= stated_at -> printf("start: not proven\n") :: else -> write_opt_in() fi
#endif
     }
done: atomic { text = 0; said = 0 }
  od
}
#endif

#ifdef END
/* An operator's cancel: what is not marked. What expires ends likewise, while it waits. */
active proctype ending() {
  if
  :: atomic { (row == WAITING || row == CLAIMED) && lock == NOBODY -> printf("end: canceled\n"); leave(ENDED) }
#ifdef END_MARKED
  :: atomic { row == MARKED -> printf("end: canceled\n"); leave(ENDED) }
#endif
  :: skip
  fi
}
#endif

/* What must come about: a process that still waits here when nothing moves any more is a dead end. */
active proctype outcome_told() { row == NONE && message != NONE || row == WAITING && attempt == CLAIMS && lock == NOBODY }
active proctype stop_told() { version > 0 && (in_force || !opted_out) }

init {
  atomic {
    run worker(0);
#ifndef ONE_WORKER
    run worker(1);
#endif
#ifdef START
    run stop(2); run stop(5);
#else
    run stop(1);
#endif
#ifdef COMPARE
    run compare(0); run compare(1)
#endif
  }
}
