/* One record in the input topic, two members of the consumer group, one of which may die; a rebalance may hand the partition over at any
   moment, and the old owner goes on until it notices.
     read      from the last committed offset                                                           bus/consumer.py
     admit     one transaction: the message's id (unique) and the message; what is there already stays   store/intake.py admit
     durable   the offset is committed after it                                                         flow/intake.py
   Checked:
     once      the message is there once, however often its record is read
     end       no dead end: the message is there */
byte messages = 0, owner = 0, kills = 1, moves = 2;
bool committed = false, ids = false, alive[2] = true;
inline admit() {
  atomic {
    if
    :: alive[me] ->
#ifdef NO_IDS
       messages++; printf("admit: member %d inserts\n", me)
#else
       if :: !ids -> ids = true; messages++; printf("admit: member %d inserts\n", me) :: else -> printf("admit: member %d finds it there\n", me) fi
#endif
       ; assert(messages <= 1)
    :: else -> goto again
    fi }
}
inline durable() { atomic { if :: alive[me] -> committed = true; printf("durable: member %d commits the offset\n", me) :: else -> goto again fi } }
proctype member(byte me) {
end:
  do
  :: atomic { alive[me] && owner == me && !committed -> printf("read: member %d\n", me) }
#ifdef OFFSET_FIRST
     durable(); admit();
#else
     admit(); durable();
#endif
again: skip
  od
}
active proctype faults() {
  byte one;
end:
  do
  :: atomic { kills > 0 -> kills--; if :: one = 0 :: one = 1 fi; alive[one] = false; printf("kill: member %d\n", one); if :: owner == one -> owner = 1 - one :: else fi; one = 0 }
  :: atomic { moves > 0 && alive[1 - owner] -> moves--; owner = 1 - owner; printf("rebalance: member %d has the partition\n", owner) }
  od
}
active proctype taken_in() { messages == 1 }
init { atomic { run member(0); run member(1) } }
