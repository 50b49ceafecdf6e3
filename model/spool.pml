/* A STOP while PostgreSQL is away, for all or for the web alone; it stands in the spool, once or twice. Nothing here needs
   that only one applier works. Time: a reading counts for so many seconds from before the end was asked for, and the web answers so many after the
   acknowledgement; so an answer finds every reading from before it over. "phase" is 0 until the record is acknowledged.
     attempt   the STOP is written, or PostgreSQL is found away                                          flow/spooling.py
     spool     the broker has the record, all replicas                                                   flow/spooling.py
     answer    so many seconds later: "written"                                                          flow/spooling.py
     look      PostgreSQL's time and the offset, before anything is asked of Kafka                       flow/spool_applier.py
     end       the end of the topic                                                                      bus/spool.py
     apply     the opt-out with its id, then block                                                       flow/stop.py
     advance   the offset moves                                                                          store/spool.py
     clear     read to the end, as of the look                                                           store/spool.py
     claim     looks whether the reading still counts, then reads consent; mark looks again              store/dispatch.py
   Checked:
     held      once a STOP is answered as written, no claim begins and nothing is marked until it is applied
     undo      a later START stays: what is applied again changes nothing
     end       no dead end: in the end the spool is read and its STOP applied */
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef APPLIERS
#define APPLIERS 1
#endif
byte tail = 0, next = 0, phase = 0, rounds = ROUNDS;
bool postgres = true, link = true, kafka = true;
bool noted = false, out = false, written = false, answered = false, undone = false;
bool clear = false, claimed = false;
byte clear_at = 0;

#if defined(ANSWER_AT_ONCE) || defined(NO_LEASE)
#define OVER(at) false
#define WAITED true
#else
#define OVER(at) (answered && at == 0)
#define WAITED (!(clear && clear_at == 0))
#endif

active proctype outage() { postgres = false; printf("PostgreSQL: away\n"); postgres = true; printf("PostgreSQL: back\n") }
active proctype cut() { link = false; printf("the web: cut off from PostgreSQL\n"); link = true; printf("the web: reaches PostgreSQL\n") }
active proctype broker() { kafka = false; printf("Kafka: away\n"); kafka = true; printf("Kafka: back\n") }
active proctype clock() {
end:
  do
#ifndef NO_LEASE
  :: atomic { clear -> clear = false; clear_at = 0; printf("the reading counts no more\n") }
#else
  :: false
#endif
  od
}
inline write() {
  if
#ifdef NO_ID
  :: true -> assert(!undone); noted = true; out = true; written = true; printf("apply: the STOP is written\n")
#else
  :: !noted -> noted = true; out = true; written = true; printf("apply: the STOP is written\n")
  :: noted -> printf("apply: the text is known\n")
#endif
  fi
}
active proctype web() {
end:
  do
  :: rounds > 0 ->
     if
     :: atomic { postgres && link -> rounds--; write() }
     :: atomic { !(postgres && link) -> rounds--; printf("attempt: PostgreSQL is away\n") }
        if
        :: atomic { kafka -> tail++; printf("spool: record %d\n", tail); if :: phase == 0 -> phase = 1 :: else fi }
           if
           :: atomic { WAITED -> answered = true; printf("answer: written\n") }
           :: printf("the web dies before it answers\n")
           fi
        :: !kafka -> printf("answer: 503\n")
        fi
     fi
  od
}
active proctype person() {
end:
  atomic { written && out -> out = false; undone = true; printf("START: later, and granted\n") }
}
inline may_die() { if :: atomic { true -> printf("applier: killed\n"); goto again } :: true fi }
inline advance() { atomic { postgres -> if :: next == from -> next = from + 1 :: else fi; printf("advance: to %d\n", from + 1) } }
active [APPLIERS] proctype applier() {
  byte from, upto, at;
end:
  do
  :: atomic { postgres -> from = next; at = phase; printf("look: at offset %d\n", from) }
     if
#ifdef NO_END
     :: upto = from
#else
     :: atomic { kafka -> upto = tail; printf("end: %d\n", upto) }
#endif
#ifdef UNREADABLE_IS_EMPTY
     :: atomic { !kafka -> upto = from; printf("end: Kafka does not answer\n") }
#else
     :: !kafka -> goto again
#endif
     fi;
     do
     :: from < upto ->
#ifdef ADVANCE_FIRST
        advance();
        may_die();
#endif
        atomic { postgres -> write() }
        atomic { postgres -> if :: claimed && out -> claimed = false; printf("block: the claimed message\n") :: else fi }
        may_die();
#ifndef ADVANCE_FIRST
        advance();
#endif
        from++
     :: else -> break
     od;
#ifdef COUNT_LATE
     at = phase;
#endif
     atomic { postgres ->
       if :: !OVER(at) && !(clear && clear_at > at) -> clear = true; clear_at = at; printf("clear: as of %d\n", at) :: else fi }
again: from = 0; upto = 0; at = 0
  od
}
active proctype worker() {
end:
  do
#ifdef NO_READING
  :: atomic { postgres ->
#else
  :: atomic { postgres && clear ->
#endif
       printf("claim: looks\n"); assert(!(answered && !written)) }
     atomic { postgres -> if :: !out -> claimed = true; printf("claim: reads no opt-out\n") :: else fi }
     atomic { postgres ->
#ifdef NO_SECOND_LOOK
       if :: claimed -> printf("mark\n"); assert(!(answered && !written)) :: else fi;
#else
       if :: claimed && clear -> printf("mark\n"); assert(!(answered && !written)) :: else fi;
#endif
       claimed = false }
  od
}
active proctype applied() { postgres && link && kafka && next == tail && (tail == 0 || written) }
