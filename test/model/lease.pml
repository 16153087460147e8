/*
 * A model of several workers that share one pass. spin checks it exhaustively within small
 * bounds: every interleaving, every pause, every lost response.
 *
 *	make model        checks the model, and that removing a protection is detected
 *
 * NAMES IN THE MODEL AND IN THE PROGRAM
 *
 *	model              program
 *	-----              -------
 *	record[p]          checkpoint.Progress of partition p, in a checkpoint.Store
 *	  .version         Entry.version: every write gets a new and unique version
 *	  .cursor .count   Progress.Cursor and Progress.Counts, in pages
 *	  .owner .epoch    Progress.Owner and Progress.Epoch
 *	  .chunks          Progress.Chunks: the number of valid ledger chunks of each epoch
 *	chunk[]            checkpoint.LedgerChunk, named by epoch and number (chunkID)
 *	pass               checkpoint.Pass, whose Status becomes Finished once
 *	item[i]            an item with one slot in a table or bucket; one item per page
 *	Worker             one process of the pass: its Tracker and its engine
 *	  claim            Tracker.acquire
 *	  read             worker.prepare and worker.decide (internal/rotate/worker.go),
 *	                   including the request to KMS
 *	  write            worker.write, worker.settle and worker.reconcile, with the
 *	                   condition of Replace in dynamoscan and s3scan
 *	  collect, save    Tracker.collect and Tracker.save
 *	  give             Tracker.save of a partition that is handed over, when none of its
 *	                   pages is in progress
 *	  look             the Fetch after a lost response (DynamoDB.put, S3.put): does the
 *	                   record have the version of this worker's write?
 *	  close            Passes.Done, then Passes.Update
 *	Application        all other programs that write the items
 *
 * STEPS
 *
 * One atomic step is one request as the service executes it, or a step without requests.
 * Between two steps of a process, the other processes may take any number of steps. This
 * models pauses (SIGSTOP, a slow network, a long garbage collection). A pause without an end
 * is a crash: there are CRASHES explicit crashes, and any process may also never be
 * scheduled again.
 *
 * The model has no clock, no lease and no list of members: any worker may take over any
 * unfinished partition of another worker at any time. The properties that hold nevertheless
 * do not depend on time.
 *
 * A process that is restarted knows nothing of its predecessor, so it is another Worker. Two
 * workers, one of which is restarted, are LIVES=3, where the third may even start while the
 * first is only paused. All workers are equal, so they start in the order of their numbers.
 * This halves the number of states without loss of coverage.
 *
 * SIMPLIFICATIONS, AND WHY THEY ARE SOUND
 *
 *   - A claim is one step, not Fetch and Replace: if the record still has the fetched
 *     version, the fetch can have happened immediately before. Otherwise the claim does
 *     nothing.
 *   - Reading an item and the request to KMS are one step, because no action of other
 *     processes changes the response. The pause before the write is the relevant one.
 *   - A save in progress blocks the pages of its own worker. To compensate, the save may
 *     contain fewer complete pages than there are.
 *   - A request that arrives after its worker gave up on it is always the write of an item
 *     (LATE). A late save is the save of a worker that was paused before it.
 *   - An item that is given up after too many changes (conflict) is in the ledger, like an
 *     item that KMS refuses.
 *   - A worker hands over a partition at most once (GIVE), and never together with REFUSE,
 *     because this would need more epochs.
 *   - The start of a pass and the retry are not modelled. The division of the rate is
 *     modelled in division.pml.
 *
 * BOUNDS, set by check.sh with -D
 */
#ifndef PARTS
#define PARTS 1         /* partitions */
#endif
#ifndef PAGES
#define PAGES 2         /* pages per partition, with one item each; PARTS * PAGES is at most 4 */
#endif
#ifndef WINDOW
#define WINDOW 2        /* maximum number of unsaved pages of a partition: TrackOptions.Window */
#endif
#ifndef LIVES
#define LIVES 2         /* number of workers, including restarts */
#endif
#ifndef WRITES
#define WRITES 1        /* number of writes of the application */
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef LOST
#define LOST 99         /* number of lost responses; 99 means any number */
#endif
/* REFUSE: KMS may refuse any ciphertext. Its page then belongs in the ledger.
 * LATE: one write of an item may be delivered after its worker gave up on it.
 * RESTART: the last worker starts only after another worker crashed.
 * GIVE: a worker may hand over a partition without a page in progress.
 *
 * PROTECTIONS THAT CAN BE REMOVED. Without each of them a property must fail:
 *
 * NO_FENCE      a save of the cursor does not compare versions
 * NO_GIVE_FENCE a partition is handed over without comparing versions
 * NO_CONDITION  the write of an item has no condition on the value that was read
 * NO_ORDER      a cursor is saved when its pages have started, not when they are complete
 * NO_EPOCH      ledger chunks are named by number alone
 * NO_COUNT_CAS  the count is saved separately, before the cursor
 * NO_CLOSE_CAS  the record of the pass is replaced without comparing versions
 * NO_CLOSE_LOOK a worker without partitions closes the pass without a check of
 *               the partitions of other workers
 */

#define ITEMS (PARTS * PAGES)
#define I(p, k) ((p) * PAGES + (k))     /* item of page k of partition p */
#define P(i) ((i) / PAGES)              /* partition of item i */
#define K(i) ((i) % PAGES)              /* page of item i in its partition */

/* PROPERTIES. Each is a variable, so that the output of spin names it. */

bool no_lost_update = true;     /* the re-encryption of an older value never overwrites
                                 * a value of the application (I1) */
bool nothing_skipped = true;    /* when the pass is closed, every item is decided (I4) */
bool counted_once = true;       /* when the pass is closed, the cursor has passed every
                                 * page exactly once, and the counts contain it once */
bool fenced_off = true;         /* a worker that lost a partition never moves its cursor,
                                 * no worker does after the close, and no cursor moves
                                 * backwards (I6) */
bool closed_once = true;        /* a pass is closed only once */
bool no_wrong_done = true;      /* when the pass is closed, every item that the
                                 * application has not changed since the read that
                                 * was counted is under the new key or in the ledger
                                 * (I5) */

#define check(property, holds) property = (holds); assert(property)

#define OLD 0   /* ciphertext under the source key */
#define NEW 1   /* under the destination key */

typedef Item {
	bit key;
	byte value      /* the number of the application's value that is encrypted */
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
/* The pages in a chunk of an epoch, as bits. A worker claims a partition at most once, so
 * there are at most LIVES epochs, counted from 1. */
byte chunk[PARTS * (LIVES + 1) * PAGES];
#define CHUNK(p, epoch, n) chunk[((p) * (LIVES + 1) + (epoch)) * PAGES + (n)]
#endif

/* The next version, which is unique: it contains a counter and the number of its writer. */
#define NEXT(version) (((version) / LIVES + 1) * LIVES + me)

/* The actual history, for the properties. No worker reads these variables. */
byte passed[ITEMS];     /* the number of times that a cursor passed the item */
byte judged[ITEMS];     /* 1 + the value that the worker of that cursor had read; 0: none */
bool decided[ITEMS];    /* some worker has determined an outcome */

byte begun;             /* number of workers that have started */
byte crashes, lost;

#ifdef LATE
#define NOT_SENT 254
#define ARRIVED 255
byte late = NOT_SENT;   /* the item of the late write */
byte lateValue;
#endif

/* The states of an item in a worker. */
#define IDLE 0
#define AGAIN 1         /* must be read again: its write was refused, or its response was lost */
#define MOVING 2        /* read, and KMS has returned the new ciphertext */
#define MOVED 3         /* outcome: rotated or current */
#define LISTED 4        /* outcome: belongs in the ledger */
/* The states of a partition in a worker. */
#define NONE 0
#define HELD 1
#define SAVING 2        /* pages are collected for a save, and the ledger chunk is written */
#define HALF 3          /* the count is saved, the cursor is not (NO_COUNT_CAS) */
#define UNSURE 4        /* a claim or a save was applied, and its response was lost */

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

/* At most LOST responses are lost. */
#define mayLose (LOST == 99 || lost < LOST)
#define countLost lost = (LOST == 99 -> 0 : lost + 1)

/* claim: Tracker.acquire. It does not depend on whether the owner is alive. */
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

/* answer: a record was written, and the response arrives or is lost. */
inline answer(p) {
	if
	:: settled(p)
	:: mayLose -> hold[p] = UNSURE; countLost
	fi
}

/* look: the response was lost. The write was applied if the record has its version. If
 * another worker has written since, this worker ends. */
inline look(p) {
	atomic {
		hold[p] == UNSURE ->
		if
		:: record[p].version == version[p] -> settled(p)
		:: else -> goto over
		fi
	}
}

/* settled: the claim or save is done. The worker forgets the pages that were saved. */
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

/* drop: the worker forgets a partition. */
inline drop(p) {
	hold[p] = NONE;
	version[p] = 0; epoch[p] = 0; cursor[p] = 0; to[p] = 0; count[p] = 0;
#ifdef REFUSE
	chunks[p] = 0
#endif
}

/* read: worker.decide for the current item, including the request to KMS. */
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

/* write: Replace, on the condition that the item has not changed since it was read. */
inline write(i) {
	atomic {
		phase[i] == MOVING ->
		if
		:: unchanged(i, value[i]) -> put(i, value[i]); phase[i] = MOVED; decided[i] = true
		:: unchanged(i, value[i]) && mayLose -> put(i, value[i]); countLost; again(i)
		:: !unchanged(i, value[i]) -> again(i)
		:: mayLose -> countLost; again(i) /* the request did not arrive */
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

/* collect: Tracker.collect removes complete pages from the front, and Tracker.save writes
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

/* save: Tracker.save writes cursor and counts to the record in one compare-and-swap. A
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

/* half: a separate save of the count, which is wrong (NO_COUNT_CAS). */
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

/* give: the record keeps what this worker saved last, and has no owner any more. */
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

/* inspect: the properties that must hold when the pass is closed. */
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

/* inLedger: reports whether a valid chunk contains the item. */
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

/* EACH...: branches of a do with a step for each partition or item. */
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

/* forget: a worker loses its memory. */
inline forget() {
	for (n : 0 .. PARTS - 1) { drop(n) }
	for (n : 0 .. ITEMS - 1) { phase[n] = IDLE; value[n] = 0 }
	n = 0; k = 0; seen = 0
}

proctype Worker(byte me) {
	byte hold[PARTS], version[PARTS], epoch[PARTS], cursor[PARTS], count[PARTS];
	byte to[PARTS];         /* the cursor after the save in progress */
	byte phase[ITEMS];
	byte value[ITEMS];      /* the value that was read */
	byte seen;              /* the version of the pass record that was read */
	byte n, k;
	bool listed;
#ifdef GIVE
	bool gave[PARTS];       /* partitions that were handed over */
#endif
#ifdef REFUSE
	byte chunks[PARTS];     /* number of ledger chunks of this epoch */
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

	/* close: Passes.Done reads one record after the other, */
	do
	:: atomic { n < PARTS && looksDone(n) -> n++ }
	:: atomic { n < PARTS && !looksDone(n) -> n = 0; goto work }
	:: atomic { n == PARTS -> n = 0; break }
	od;
	/* then Passes.Update repeats until the record is Finished, by this or another worker. */
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

/* overwrite: the application writes a new value at any time. It switches from the old key
 * to the new key once. */
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

/* If a worker is restarted after a crash, every pass is eventually closed, provided that
 * every process continues when it can (weak fairness). */
#ifdef PROGRESS
ltl progress { <> pass.closed }
#endif
