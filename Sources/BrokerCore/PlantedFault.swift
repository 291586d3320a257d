/// A way to be wrong, for tests only: a core with one planted must be found out by the checker of simulated histories.
///
/// Internal: no program can set it. Nil in every core but those that `PlantedFaultTests` makes.
enum PlantedFault: String, CaseIterable, Sendable {
    /// A result is taken whatever lease and attempt it quotes.
    case acceptsStaleToken
    /// Now and then an acknowledged job never reaches the store.
    case losesSubmit
    /// A result counts twice.
    case acceptsTwice
    /// A cancelled job goes on in its queue.
    case dispatchesCancelled
    /// A lease that no beat renews never ends.
    case neverEndsLease
    /// The end of a job is not told to those that come after it.
    case neverWakesDependents
    /// A wait before the next try never ends.
    case neverEndsBackoff
    /// A running job is set back to waiting.
    case illegalTransition
    /// A new try has the number of the one before.
    case reusesAttemptNumber
    /// The last line of a piece of a batch is forgotten.
    case forgetsLine
    /// Workers are sent more than they have room for.
    case ignoresCredit
    /// Held jobs are given out.
    case runsHeldJob
    /// Jobs run before those that they come after.
    case ignoresDependencies
    /// The end of a job is published to nobody.
    case forgetsEndEvent
    /// A task that kills its workers is never set aside.
    case neverSetsAside
    /// Who dies with others in hand pays as if it had been alone.
    case blamesCompanions
    /// A retry runs again what succeeded already.
    case retriesDone
}
