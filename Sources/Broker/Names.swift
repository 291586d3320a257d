import BrokerCore
import WireProtocol

// Core and wire have types of the same names on purpose: each speaks its own language. In this
// module a bare name is the core's, and `Wire.` stands before the wire's.

typealias ArtifactReference = BrokerCore.ArtifactReference
typealias Dependency = BrokerCore.Dependency
typealias ErrorClass = BrokerCore.ErrorClass
typealias ErrorCode = BrokerCore.ErrorCode
typealias JobCounts = BrokerCore.JobCounts
typealias JobID = BrokerCore.JobID
typealias JobState = BrokerCore.JobState
typealias Submission = BrokerCore.Submission
typealias TaskID = BrokerCore.TaskID
typealias TaskState = BrokerCore.TaskState
typealias WorkerHello = BrokerCore.WorkerHello

enum Wire {
    typealias ArtifactReference = WireProtocol.ArtifactReference
    typealias Dependency = WireProtocol.Dependency
    typealias ErrorClass = WireProtocol.ErrorClass
    typealias ErrorCode = WireProtocol.ErrorCode
    typealias JobCounts = WireProtocol.JobCounts
    typealias JobID = WireProtocol.JobID
    typealias JobState = WireProtocol.JobState
    typealias Submission = WireProtocol.Submission
    typealias TaskID = WireProtocol.TaskID
    typealias TaskState = WireProtocol.TaskState
    typealias WorkerHello = WireProtocol.WorkerHello
}
