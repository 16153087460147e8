/*
 * How the runs on one pass divide the rate, as a model that spin checks exhaustively
 * within small bounds: every interleaving, every pause, every death.
 *
 *	make model        checks it, and that it notices when a rule is gone
 *
 * WHAT STANDS FOR WHAT
 *
 *	here               in the program
 *	----               --------------
 *	stale[]            whether the member list has a newer version (checkpoint.Entry) than
 *	                   the run has read last: then its write has no effect
 *	division           memberList.Division
 *	listed[], busy[],  the entry of a run in memberList.Members: whether it exists,
 *	seen[]             member.Busy (0: idle) and member.Applied
 *	share[]            what the limiter of a run lets through (Limiter.Divide)
 *	lapsed[]           whether Share.Until of the run is over
 *	wants              membership.uses > 0
 *	  read             the first half of membership.tryHeartbeat: read, and setView(stored).
 *	                   The response to a write that collided contains the member list too
 *	  write            its second half, membership.write: the compare-and-swap, and
 *	                   setView(next). A write need not follow a read: announce writes on top
 *	                   of what was read or written last
 *	  stop             divide(Share{}) before the write that states idle
 *	  drop             membership.observe and memberList.remove: a run that was silent for
 *	                   a lease
 *
 * Time is not here but for one thing that rests on it: a run is dropped only when its
 * share has lapsed. The program drops a run after a lease without a write of it, counted
 * from when another run has read its last write, and its share lapses after 90% of the
 * lease, counted from before that write.
 *
 * A write is one step although the program decides on what it has read: the write does
 * nothing if the record has changed since, so what was read is what is there.
 *
 * Runs of the pass before (memberList.Former) are left out: while there are any no run has a
 * share, and they leave as others do.
 */
#ifndef RUNS
#define RUNS 3
#endif
#ifndef CHANGES
#define CHANGES 4       /* a run may become busy while there were fewer divisions */
#endif
#define RATE 12         /* a number that each number of runs divides */

/* RULES THAT CAN BE TAKEN AWAY, each of which must break a property:
 *
 * NO_WAIT       a run that becomes busy does not wait until the others have seen it
 * NO_STOP       a run says that it is idle before it stops
 * NO_LAPSE      a run is dropped although its share has not lapsed
 * NO_CONDITION  a write does not compare versions: it says that the run has seen a
 *               division which it has not applied
 * IDLE_COUNTED  the rate is divided by all runs, those without work too
 */

bool rate_kept = true;  /* the shares of all runs are at most the rate */
bool rate_used = true;  /* a run that is the only busy one, and applies a share, has the
                         * whole rate */

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

/* wrote: the write was applied. What a run is not busy with need not be remembered. */
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
	/* work comes and goes */
	:: atomic { division < CHANGES && !wants -> wants = true }
	:: wants -> wants = false

	/* read; a run that is not listed any more ends */
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
	/* what the lease does: the share lapses, and another run drops the entry */
	:: d_step { busy[me] > 0 && !lapsed[me] -> lapsed[me] = true; share[me] = 0 }
	:: drops((me + 1) % RUNS)
	/* death */
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
