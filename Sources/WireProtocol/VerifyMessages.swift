import JSONModel

/// `VERIFY`: checks one page of a job's lines, from the stored files, against what was answered.
public struct VerifyRequest: Codable, Sendable, Equatable {
    /// A selector of one job.
    public var job: String
    /// `next` of the page before.
    public var after: String?
    public var limit: Int?

    public init(job: String, after: String? = nil, limit: Int? = nil) {
        self.job = job
        self.after = after
        self.limit = limit
    }
}

/// What a page of `VERIFY` found. The sums of all pages of an ended job prove it: `lines` is the file's, every other count
/// is of lines that have exactly one answer, and there is no problem.
public struct VerifyReply: Codable, Sendable, Equatable {
    /// Lines of this page by their answer.
    public struct Answers: Codable, Sendable, Equatable {
        public var done: Int
        /// An error line, of a worker or (bad lines among them) of the broker.
        public var failed: Int
        public var dead: Int
        public var cancelled: Int
        /// Not answered yet: the job has not ended.
        public var open: Int

        public init(
            done: Int = 0, failed: Int = 0, dead: Int = 0, cancelled: Int = 0, open: Int = 0
        ) {
            self.done = done
            self.failed = failed
            self.dead = dead
            self.cancelled = cancelled
            self.open = open
        }
    }

    /// Something that must not be.
    public struct Problem: Codable, Sendable, Equatable {
        /// `MISSING`, `REPEATED`, `WRONG_LINE`, `UNREADABLE`, `INDEX`, `INPUT`.
        public var code: String
        public var message: String
        /// Number in the input file, from 1.
        public var line: Int?

        public init(code: String, message: String, line: Int? = nil) {
            self.code = code
            self.message = message
            self.line = line
        }
    }

    public var job: JobID
    public var state: JobState
    /// Lines looked at in this page.
    public var lines: Int
    public var answers: Answers
    /// How many problems this page has; `problems` names the first 20.
    public var problemCount: Int
    public var problems: [Problem]
    public var next: String
    public var complete: Bool

    enum CodingKeys: String, CodingKey {
        case job, state, lines, answers
        case problemCount = "problem_count"
        case problems, next, complete
    }

    public init(
        job: JobID, state: JobState, lines: Int, answers: Answers, problemCount: Int,
        problems: [Problem], next: String, complete: Bool
    ) {
        self.job = job
        self.state = state
        self.lines = lines
        self.answers = answers
        self.problemCount = problemCount
        self.problems = problems
        self.next = next
        self.complete = complete
    }
}
