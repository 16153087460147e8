/*
 * How several workers share one pass, as a model that spin checks exhaustively
 * within small bounds: every interleaving, every pause, every lost answer.
 *
 *	make model        checks it, and that it notices when a protection is gone
 *
 * WHAT STANDS FOR WHAT
 *
 *	here               in the program
 *	----               --------------
 *	record[p]          checkpoint.Progress of partition p, in a checkpoint.Store
 *	  .version         Entry.version: new and unique with every write
 *	  .cursor .count   Progress.Cursor and Progress.Counts, in pages
 *	  .owner .epoch    Progress.Owner and Progress.Epoch
 *	  .chunks          Progress.Chunks: how many ledger chunks of each epoch count
 *	chunk[]            checkpoint.LedgerChunk, named by epoch and number (chunkID)
 *	pass               checkpoint.Pass, whose Status becomes Finished once
 *	item[i]            an item of one slot in a table or bucket; one to a page
 *	Worker             one process on the pass: Tracker, and the engine under it
 *	  claim            Tracker.acquire
 *	  read             worker.prepare and worker.decide (internal/rotate/chunk.go),
 *	                   with the question to KMS
 *	  write            worker.write, worker.settle and worker.reconcile; the
 *	                   condition is that of Replace in dynamoscan and s3scan
 *	  collect, save    Tracker.collect and Tracker.save
 *	  give             Tracker.save of a partition that is drained (Tracker.shed), with
 *	                   none of its pages begun
 *	  look             the Fetch after an answer that did not come (DynamoDB.put,
 *	                   S3.put): is the version there that of our own write?
 *	  close            Passes.Done, then Passes.Update
 *	Application        whoever else writes the items, with no regard for rotator
 *
 * WHO MAY DO WHAT, AND WHEN
 *
 * One atomic step is one request as its service carries it out, or nothing but
 * thought. Between any two of them every other process may take any number of
 * steps, which is what a pause is (SIGSTOP, a slow network, a long collection of
 * garbage). A pause that never ends is a crash; CRASHES are such, and besides
 * them any process may simply never be scheduled again.
 *
 * Belief in another's death needs no clock, no lease and no roster here: any
 * worker may take any unfinished partition from any other at any time. What
 * holds in spite of that does not depend on time.
 *
 * A process that is started again knows nothing of the one before, so it is one
 * more Worker: two workers of which one is restarted are LIVES=3, where the third
 * may even come while the first is only paused. Workers are alike, so they
 * begin in order of their numbers; that halves the work and leaves nothing out.
 *
 * SIMPLER THAN THE PROGRAM, AND WHY THAT IS ALLOWED
 *
 *   - A claim is one step, not Fetch and Replace: if the version is still what was
 *     fetched, the fetch could have come right before; else the claim does nothing.
 *   - Reading an item and asking KMS are one step, for nothing that others do
 *     changes the answer; the pause that matters is the one before the write.
 *   - A save that is under way holds up the pages of its own worker here. To make
 *     up for it, it may hold fewer complete pages than there are.
 *   - A request that is late beyond its worker's patience is an item's (LATE). A
 *     late save is the save of a worker that was paused before it.
 *   - An item that is given up after too many changes (conflict) ends in the ledger
 *     as one that KMS refuses does.
 *   - A worker hands a partition over once at most (GIVE), and not where chunks are named
 *     by epochs (REFUSE), of which there would be more.
 *   - The beginning of a pass and retry are left out, and the division of the rate is
 *     division.pml.
 *
 * BOUNDS, set by check.sh with -D
 */
#ifndef PARTS
#define PARTS 1         /* partitions */
#endif
#ifndef PAGES
#define PAGES 2         /* in each, with one item each; PARTS * PAGES is at most 4 */
#endif
#ifndef WINDOW
#define WINDOW 2        /* pages of a partition begun and not saved: TrackOptions.Window */
#endif
#ifndef LIVES
#define LIVES 2         /* workers, those that are restarts of others included */
#endif
#ifndef WRITES
#define WRITES 1        /* writes of the application */
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef LOST
#define LOST 99         /* lost answers; 99: any number */
#endif
/* REFUSE: KMS may refuse any ciphertext, whose page then belongs in the ledger.
 * LATE: one write of an item may be delivered after its worker gave up on it.
 * RESTART: the last worker is started only after another crashed.
 * GIVE: a worker may hand a partition over of which no page is being worked on.
 *
 * PROTECTIONS THAT CAN BE TAKEN AWAY, each of which must break a property:
 *
 * NO_FENCE      a save of the cursor does not compare versions
 * NO_GIVE_FENCE a partition is handed over without comparing versions
 * NO_CONDITION  the write of an item does not compare what was read
 * NO_ORDER      a cursor is saved when its pages have begun, not when they ended
 * NO_EPOCH      ledger chunks are named by number alone
 * NO_COUNT_CAS  the count is saved by itself, before the cursor
 * NO_CLOSE_CAS  the record of the pass is replaced without comparing versions
 * NO_CLOSE_LOOK the pass is closed by a worker that has no partition left,
 *               without looking at the partitions of others
 */

#define ITEMS (PARTS * PAGES)
#define I(p, k) ((p) * PAGES + (k))     /* item of page k of partition p */
#define P(i) ((i) / PAGES)              /* partition of item i */
#define K(i) ((i) % PAGES)              /* page of item i in its partition */

/* PROPERTIES. Each is a variable, so that spin's verdict names it. */

bool no_lost_update = true;     /* a value of the application is never overwritten by
                                 * the re-encryption of an older one (I1) */
bool nothing_skipped = true;    /* at the close every item has been decided (I4) */
bool counted_once = true;       /* at the close the cursor has passed, and the counts
                                 * have counted, every page exactly once */
bool fenced_off = true;         /* whoever lost a partition never moves its cursor, and
                                 * nobody does after the close; no cursor goes back (I6) */
bool closed_once = true;        /* a pass is closed once */
bool no_wrong_done = true;      /* at the close every item which the application left
                                 * alone, since it was read by the worker that counted it,
                                 * is under the new key or in the ledger (I5) */

#define check(property, holds) property = (holds); assert(property)

#define OLD 0   /* ciphertext under the key that retires */
#define NEW 1   /* under the destination key */

typedef Item {
	bit key;
	byte value      /* which of the application's values it is the ciphertext of */
}
Item item[ITEMS];

typedef Record {
	byte version, cursor, count, owner, epoch;
#ifdef REFUSE
	byte chunks[LIVES + 1]
#endif
}
Record record[PARTS];

typedef Pass {
	byte version;
	bool closed
}
Pass pass;

#ifdef REFUSE
/* The pages listed by a chunk of an epoch, as bits. A worker claims a partition once
 * at most, so there are no more than LIVES epochs, from 1. */
byte chunk[PARTS * (LIVES + 1) * PAGES];
#define CHUNK(p, epoch, n) chunk[((p) * (LIVES + 1) + (epoch)) * PAGES + (n)]
#endif

/* A version that nobody ever writes again: it counts, and names its writer. */
#define NEXT(version) (((version) / LIVES + 1) * LIVES + me)

/* Ghosts: what really happened. No worker looks at them. */
byte passed[ITEMS];     /* how often a cursor went past the item */
byte judged[ITEMS];     /* 1 + the value that the worker had read which did that; 0: none */
bool decided[ITEMS];    /* some worker has come to an outcome */

byte begun;             /* workers that have begun */
byte crashes, lost;

#ifdef LATE
#define NOT_SENT 254
#define ARRIVED 255
byte late = NOT_SENT;   /* the item of the write that is late */
byte lateValue;
#endif

/* What a worker may be at with an item, */
#define IDLE 0
#define AGAIN 1         /* to be read again: its write was refused, or had no answer */
#define MOVING 2        /* read, and KMS gave the new ciphertext */
#define MOVED 3         /* outcome: rotated, or current */
#define LISTED 4        /* outcome: for the ledger */
/* and with a partition. */
#define NONE 0
#define HELD 1
#define SAVING 2        /* pages are collected for a save, and its chunk is written */
#define HALF 3          /* the count is saved, the cursor is not (NO_COUNT_CAS) */
#define UNSURE 4        /* a claim or a save was applied, and no answer came */

#define underway(i) (phase[i] == AGAIN || phase[i] == MOVING)
#define finished(i) (phase[i] == MOVED || phase[i] == LISTED)
#define begins(i) (phase[i] == IDLE && hold[P(i)] != NONE && K(i) >= cursor[P(i)] && K(i) < cursor[P(i)] + WINDOW)

#ifdef NO_ORDER
#define saveable(i) (phase[i] != IDLE)
#else
#define saveable(i) finished(i)
#endif

#ifdef NO_CONDITION
#define unchanged(i, v) true
#else
#define unchanged(i, v) (item[i].key == OLD && item[i].value == (v))
#endif

#ifdef NO_FENCE
#define unfenced(p) true
#else
#define unfenced(p) (record[p].version == version[p])
#endif

#ifdef NO_GIVE_FENCE
#define unfencedGive(p) true
#else
#define unfencedGive(p) unfenced(p)
#endif

#ifdef NO_EPOCH
#define chunkEpoch(p) 0
#else
#define chunkEpoch(p) epoch[p]
#endif

#ifdef NO_CLOSE_CAS
#define unswapped true
#else
#define unswapped (pass.version == seen)
#endif

#ifdef NO_CLOSE_LOOK
#define looksDone(p) true
#else
#define looksDone(p) (record[p].cursor == PAGES)
#endif

/* An answer may be lost as often as LOST says. */
#define mayLose (LOST == 99 || lost < LOST)
#define countLost lost = (LOST == 99 -> 0 : lost + 1)

/* claim: Tracker.acquire. Whether the owner lives is not asked. */
inline claim(p) {
	atomic {
		hold[p] == NONE && record[p].cursor < PAGES ->
		d_step {
			record[p].owner = 1 + me;
			record[p].epoch++;
			record[p].version = NEXT(record[p].version);
			version[p] = record[p].version;
			epoch[p] = record[p].epoch;
			cursor[p] = record[p].cursor;
			to[p] = record[p].cursor;
			count[p] = record[p].count;
#ifdef REFUSE
			chunks[p] = record[p].chunks[chunkEpoch(p)]
#endif
		}
		answer(p)
	}
}

/* answer: a record was written, and the answer arrives or is lost. */
inline answer(p) {
	if
	:: settled(p)
	:: mayLose -> hold[p] = UNSURE; countLost
	fi
}

/* look: the answer was lost. All is well if the record has the version of that very
 * write; if others have written since, the worker ends. */
inline look(p) {
	atomic {
		hold[p] == UNSURE ->
		if
		:: record[p].version == version[p] -> settled(p)
		:: else -> goto over
		fi
	}
}

/* settled: the claim or save is done; the pages it saved are forgotten. */
inline settled(p) {
	d_step {
		for (k : 0 .. PAGES - 1) {
			if
			:: k >= cursor[p] && k < to[p] && finished(I(p, k)) -> phase[I(p, k)] = IDLE; value[I(p, k)] = 0
			:: else
			fi
		}
		k = 0;
		count[p] = count[p] + to[p] - cursor[p];
		cursor[p] = to[p];
		hold[p] = HELD;
		if
		:: cursor[p] == PAGES -> drop(p)
		:: else
		fi
	}
}

/* drop: nothing is kept of a partition that is done. */
inline drop(p) {
	hold[p] = NONE;
	version[p] = 0; epoch[p] = 0; cursor[p] = 0; to[p] = 0; count[p] = 0;
#ifdef REFUSE
	chunks[p] = 0
#endif
}

/* read: worker.decide, on the item as it is now, with the question to KMS. */
inline read(i) {
	atomic {
		begins(i) || phase[i] == AGAIN ->
		value[i] = item[i].value;
		if
		:: item[i].key == NEW -> phase[i] = MOVED; decided[i] = true
		:: item[i].key == OLD -> phase[i] = MOVING
#ifdef REFUSE
		:: item[i].key == OLD -> phase[i] = LISTED; decided[i] = true
#endif
		fi
	}
}

/* write: Replace, under the condition that the item is what was read. */
inline write(i) {
	atomic {
		phase[i] == MOVING ->
		if
		:: unchanged(i, value[i]) -> put(i, value[i]); phase[i] = MOVED; decided[i] = true
		:: unchanged(i, value[i]) && mayLose -> put(i, value[i]); countLost; again(i)
		:: !unchanged(i, value[i]) -> again(i)
		:: mayLose -> countLost; again(i) /* it never arrived */
#ifdef LATE
		:: late == NOT_SENT -> late = i; lateValue = value[i]; again(i)
#endif
		fi
	}
}

inline put(i, v) {
	check(no_lost_update, item[i].key == OLD && item[i].value == v);
	item[i].key = NEW;
	item[i].value = v
}

inline again(i) { phase[i] = AGAIN; value[i] = 0 }

/* collect: Tracker.collect takes complete pages off the front, and Tracker.save writes
 * the ledger before the record that counts it. */
inline collect(p) {
	atomic {
		hold[p] == HELD && saveable(I(p, cursor[p])) ->
		d_step {
			hold[p] = SAVING;
			to[p] = cursor[p] + 1;
			do
			:: to[p] < PAGES && saveable(I(p, to[p])) -> to[p]++
			:: else -> break
			od;
#ifdef REFUSE
			for (k : cursor[p] .. to[p] - 1) {
				if
				:: phase[I(p, k)] == LISTED -> list = list | (1 << k)
				:: else
				fi
			}
			k = 0;
			if
			:: list != 0 -> CHUNK(p, chunkEpoch(p), chunks[p]) = list; chunks[p]++; list = 0
			:: else
			fi
#endif
		}
	}
}

/* save: Tracker.save puts cursor and counts into the record by one compare-and-swap. A
 * refusal is ErrFenced: the worker ends, with exit code 76. */
inline save(p) {
	atomic {
#ifdef NO_COUNT_CAS
		hold[p] == HALF ->
#else
		hold[p] == SAVING ->
#endif
		if
		:: unfenced(p) -> saveCount(p); saveCursor(p); answer(p)
		:: !unfenced(p) -> goto over
		fi
	}
}

/* half: what must not be, a save of the count by itself. */
inline half(p) {
	atomic {
		hold[p] == SAVING ->
		if
		:: unfenced(p) -> saveCount(p); hold[p] = HALF
		:: !unfenced(p) -> goto over
		fi
	}
}

inline saveCount(p) {
	d_step {
		record[p].count = count[p] + to[p] - cursor[p];
		record[p].version = NEXT(record[p].version);
		version[p] = record[p].version
	}
}

inline saveCursor(p) {
	d_step {
		check(fenced_off, record[p].epoch == epoch[p] && record[p].cursor <= to[p] && !pass.closed);
		for (k : cursor[p] .. to[p] - 1) {
			passed[I(p, k)]++;
			judged[I(p, k)] = (phase[I(p, k)] == MOVING || finished(I(p, k)) -> 1 + value[I(p, k)] : 0)
		}
		k = 0;
		record[p].cursor = to[p];
#ifdef REFUSE
		record[p].chunks[chunkEpoch(p)] = chunks[p]
#endif
	}
}

#if PAGES == 1
#define unbegun(p) (phase[I(p, 0)] == IDLE)
#elif PAGES == 2
#define unbegun(p) (phase[I(p, 0)] == IDLE && phase[I(p, 1)] == IDLE)
#else
#define unbegun(p) (phase[I(p, 0)] == IDLE && phase[I(p, 1)] == IDLE && phase[I(p, 2)] == IDLE)
#endif

/* give: the record says what this worker saved last, and is free. */
inline give(p) {
	atomic {
		hold[p] == HELD && !gave[p] && unbegun(p) ->
		if
		:: unfencedGive(p) ->
			d_step {
				check(fenced_off, record[p].epoch == epoch[p] && record[p].cursor <= cursor[p] && !pass.closed);
				record[p].owner = 0;
				record[p].cursor = cursor[p];
				record[p].count = count[p];
				record[p].version = NEXT(record[p].version);
				gave[p] = true;
				drop(p)
			}
		:: !unfencedGive(p) -> goto over
		fi
	}
}

/* inspect: what has to be true at the moment when the pass is said to be complete. */
inline inspect() {
	check(closed_once, !pass.closed);
	for (n : 0 .. PARTS - 1) {
		check(counted_once, record[n].count == PAGES)
	}
	for (n : 0 .. ITEMS - 1) {
		check(nothing_skipped, decided[n]);
		check(counted_once, passed[n] == 1);
		inLedger(n);
		check(no_wrong_done, item[n].key == NEW || listed || 1 + item[n].value != judged[n]);
		listed = false
	}
	n = 0
}

/* inLedger: whether a chunk that counts lists the item. */
inline inLedger(i) {
#ifdef REFUSE
	for (e : 0 .. LIVES) {
		for (k : 0 .. PAGES - 1) {
			if
			:: k < record[P(i)].chunks[e] && (CHUNK(P(i), e, k) & (1 << K(i))) != 0 -> listed = true
			:: else
			fi
		}
	}
	e = 0; k = 0
#else
	skip
#endif
}

/* EACH... offer a step on each partition or item as branches of a do. */
#if PARTS == 1
#define EACH_PARTITION(step) :: step(0)
#else
#define EACH_PARTITION(step) :: step(0) :: step(1)
#endif
#if PARTS * PAGES == 1
#define EACH_ITEM(step) :: step(0)
#elif PARTS * PAGES == 2
#define EACH_ITEM(step) :: step(0) :: step(1)
#elif PARTS * PAGES == 3
#define EACH_ITEM(step) :: step(0) :: step(1) :: step(2)
#else
#define EACH_ITEM(step) :: step(0) :: step(1) :: step(2) :: step(3)
#endif

#if PARTS == 1
#define noneHeld (hold[0] == NONE)
#else
#define noneHeld (hold[0] == NONE && hold[1] == NONE)
#endif

#if PARTS * PAGES == 1
#define idle !underway(0)
#elif PARTS * PAGES == 2
#define idle !(underway(0) || underway(1))
#elif PARTS * PAGES == 3
#define idle !(underway(0) || underway(1) || underway(2))
#else
#define idle !(underway(0) || underway(1) || underway(2) || underway(3))
#endif

#ifdef RESTART
#define mayBegin (begun == me && (me < LIVES - 1 || crashes > 0))
#else
#define mayBegin (begun == me)
#endif

/* forget: all of a worker's memory is gone. */
inline forget() {
	for (n : 0 .. PARTS - 1) { drop(n) }
	for (n : 0 .. ITEMS - 1) { phase[n] = IDLE; value[n] = 0 }
	n = 0; k = 0; seen = 0
}

proctype Worker(byte me) {
	byte hold[PARTS], version[PARTS], epoch[PARTS], cursor[PARTS], count[PARTS];
	byte to[PARTS];         /* where the cursor will be after the save under way */
	byte phase[ITEMS];
	byte value[ITEMS];      /* as it was read */
	byte seen;              /* version of the pass */
	byte n, k;
	bool listed;
#ifdef GIVE
	bool gave[PARTS];       /* partitions that were handed over */
#endif
#ifdef REFUSE
	byte chunks[PARTS];     /* of this epoch */
	byte list, e;
#endif

end:	atomic { mayBegin -> begun++ }
work:	do
	EACH_PARTITION(claim)
	EACH_ITEM(read)
	EACH_ITEM(write)
	EACH_PARTITION(collect)
#ifdef NO_COUNT_CAS
	EACH_PARTITION(half)
#endif
	EACH_PARTITION(save)
	EACH_PARTITION(look)
#ifdef GIVE
	EACH_PARTITION(give)
#endif
	:: atomic { noneHeld && idle && looksDone(0) -> n = 1; break }
	:: atomic { crashes < CRASHES -> crashes++; goto over }
	od;

	/* close: Passes.Done, one record after the other, */
	do
	:: atomic { n < PARTS && looksDone(n) -> n++ }
	:: atomic { n < PARTS && !looksDone(n) -> n = 0; goto work }
	:: atomic { n == PARTS -> n = 0; break }
	od;
	/* then Passes.Update, until the record is Finished: whoever finds it so is content. */
	do
	:: atomic {
		if
		:: pass.closed -> goto over
		:: else -> seen = pass.version
		fi
	   }
	   atomic {
		if
		:: unswapped -> d_step { inspect(); pass.closed = true; pass.version = NEXT(pass.version) }
		:: else
		fi
	   }
	:: atomic { crashes < CRASHES -> crashes++; goto over }
	od;

over:	skip;
	d_step { forget() }
}

/* overwrite: the application puts in a value of its own, at any time. Its writers are
 * switched over from the old key to the new once. */
inline overwrite(i) {
	atomic { writes < WRITES -> writes++; item[i].value++; item[i].key = switched }
}

proctype Application() {
	byte writes;
	bit switched;

end:	do
	EACH_ITEM(overwrite)
	:: atomic { writes < WRITES && switched == OLD -> switched = NEW }
	od
}

#ifdef LATE
proctype Network() {
end:	atomic {
		late < ITEMS ->
		if
		:: unchanged(late, lateValue) -> put(late, lateValue)
		:: else
		fi;
		late = ARRIVED; lateValue = 0
	}
}
#endif

init {
	byte w;
	atomic {
		for (w : 0 .. LIVES - 1) { run Worker(w) }
		w = 0;
		run Application();
#ifdef LATE
		run Network()
#endif
	}
}

/* With a worker started again after a crash, every pass is closed some day, provided
 * that every process goes on when it can (weak fairness). */
#ifdef PROGRESS
ltl progress { <> pass.closed }
#endif
