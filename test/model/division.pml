/*
 * A model of how the runs on one pass divide the rate. spin checks it exhaustively within
 * small bounds: every interleaving, every pause, every crash.
 *
 *	make model        checks the model, and that removing a rule is detected
 *
 * NAMES IN THE MODEL AND IN THE PROGRAM
 *
 *	model              program
 *	-----              -------
 *	stale[]            whether the member list has a newer version (checkpoint.Entry) than
 *	                   the run has read last; the write of the run then has no effect
 *	division           memberList.Division
 *	listed[], busy[],  the entry of a run in memberList.Members: whether it exists, and its
 *	seen[]             member.Busy (0: idle) and member.Applied
 *	share[]            the share that the limiter of a run applies (Limiter.Divide)
 *	lapsed[]           whether Share.Until of the run has passed
 *	wants              membership.uses > 0
 *	  read             the first half of membership.tryHeartbeat: read, and setView(stored).
 *	                   The response to a write that collided contains the member list too
 *	  write            its second half, membership.write: the compare-and-swap, and
 *	                   setView(next). A write need not follow a read: announce writes on the
 *	                   basis of what was read or written last
 *	  stop             divide(Share{}) before the write that reports idle
 *	  drop             membership.observe and memberList.remove: the removal of a run that
 *	                   has not renewed its entry for a lease
 *
 * The model has no clock, except for one fact that depends on time: a run is dropped only
 * after its share has lapsed. In the program, a run is dropped a lease after another run has
 * read its last write. Its share lapses after 90% of the lease, counted from before that
 * write.
 *
 * A write is one step, although the program decides by what it has read: the write does
 * nothing if the record has changed since.
 *
 * Runs of the previous pass (memberList.Former) are not modelled: no run has a share while
 * there are any, and they leave like other runs.
 */
#ifndef RUNS
#define RUNS 3
#endif
#ifndef CHANGES
#define CHANGES 4       /* maximum number of divisions after which a run may still become busy */
#endif
#define RATE 12         /* divisible by every number of runs */

/* RULES THAT CAN BE REMOVED. Without each of them a property must fail:
 *
 * NO_WAIT       a run that becomes busy does not wait until the others have read it
 * NO_STOP       a run reports that it is idle before it stops
 * NO_LAPSE      a run is dropped although its share has not lapsed
 * NO_CONDITION  a write does not compare versions: it reports that the run has seen a
 *               division that it has not applied
 * IDLE_COUNTED  the rate is divided by all runs, including those without work
 */

bool rate_kept = true;  /* the shares of all runs are at most the rate */
bool rate_used = true;  /* if only one run is busy and it applies a share, it has the
                         * complete rate */

#define check(property, holds) property = (holds); assert(property)

byte division;
bool listed[RUNS], lapsed[RUNS], stale[RUNS];
byte busy[RUNS], seen[RUNS], share[RUNS];

#ifdef NO_CONDITION
#define unchanged true
#else
#define unchanged !stale[me]
#endif

#ifdef NO_LAPSE
#define mayDrop(i) true
#else
#define mayDrop(i) lapsed[i]
#endif

#ifdef IDLE_COUNTED
#define counts(i) listed[i]
#else
#define counts(i) (busy[i] > 0)
#endif

/* apply: memberList.share, and Limiter.Divide. */
inline apply() {
	n = 0; among = 0; ready = (busy[me] > 0 && !lapsed[me]);
	do
	:: n < RUNS ->
		if
		:: counts(n) -> among++
		:: else
		fi;
#ifndef NO_WAIT
		if
		:: n != me && busy[n] > 0 && seen[n] < busy[me] -> ready = false
		:: else
		fi;
#endif
		n++
	:: else -> break
	od;
	if
	:: ready -> share[me] = RATE / among
	:: else -> share[me] = 0
	fi;
	n = 0; among = 0;
	do
	:: n < RUNS -> among = among + share[n]; others = others + (n != me && busy[n] > 0 -> 1 : 0); n++
	:: else -> break
	od;
	check(rate_kept, among <= RATE);
	check(rate_used, !ready || others > 0 || share[me] == RATE);
	n = 0; among = 0; others = 0; ready = false
}

/* wrote: the write was applied. The state of an idle run need not be kept. */
inline wrote() {
	do
	:: n < RUNS ->
		stale[n] = (n != me);
		seen[n] = (busy[n] > 0 -> seen[n] : 0);
		n++
	:: else -> break
	od;
	n = 0;
	lapsed[me] = false
}

/* awaited: another busy run waits until this one confirms the division. A run is not more
 * recently busy than itself, so it need not be left out. */
#if RUNS == 2
#define awaited (busy[me] > 0 && (busy[0] > seen[me] || busy[1] > seen[me]))
#else
#define awaited (busy[me] > 0 && (busy[0] > seen[me] || busy[1] > seen[me] || busy[2] > seen[me]))
#endif

inline drops(i) {
	d_step {
		unchanged && listed[me] && listed[i] && mayDrop(i) ->
		listed[i] = false;
		if
		:: busy[i] > 0 -> busy[i] = 0; division++
		:: else
		fi;
		if
		:: busy[me] > 0 -> seen[me] = division
		:: else
		fi;
		wrote();
		apply()
	}
}

proctype Run(byte me) {
	byte n, among, others;
	bool wants, ready;

	/* join */
	d_step { listed[me] = true; wrote() }
end:	do
	/* the run gets work, or has no more work */
	:: atomic { division < CHANGES && !wants -> wants = true }
	:: wants -> wants = false

	/* read; a run that is no longer listed ends */
	:: d_step {
		stale[me] ->
		stale[me] = false;
		if
		:: listed[me] -> apply()
		:: else -> share[me] = 0
		fi
	   }
	:: atomic { !listed[me] && !stale[me] && share[me] == 0 -> break }

	/* write: confirms the division, if another busy run awaits that (memberList.awaits), or
	 * renews its share */
	:: d_step {
		unchanged && listed[me] && (awaited || lapsed[me]) ->
		if
		:: busy[me] > 0 -> seen[me] = division
		:: else
		fi;
		wrote();
#ifndef NO_CONDITION
		apply()
#endif
	   }
	/* write: becomes busy */
	:: d_step {
		unchanged && listed[me] && wants && busy[me] == 0 && division < CHANGES ->
		division++;
		busy[me] = division; seen[me] = division;
		wrote();
		apply()
	   }
	/* stop, and write: becomes idle */
#ifndef NO_STOP
	:: d_step { !wants && busy[me] > 0 && share[me] > 0 -> share[me] = 0 }
#else
	:: d_step { busy[me] == 0 && share[me] > 0 -> share[me] = 0 }
#endif
	:: d_step {
#ifndef NO_STOP
		share[me] == 0 &&
#endif
		unchanged && listed[me] && !wants && busy[me] > 0 ->
		division++;
		busy[me] = 0;
		wrote()
	   }
	/* the lease: the share lapses, and another run drops the entry */
	:: d_step { busy[me] > 0 && !lapsed[me] -> lapsed[me] = true; share[me] = 0 }
	:: drops((me + 1) % RUNS)
	/* crash */
	:: break
	od;
	skip;
	d_step { share[me] = 0; lapsed[me] = true }
}

init {
	byte w;
	atomic {
		for (w : 0 .. RUNS - 1) { run Run(w) }
		w = 0
	}
}
