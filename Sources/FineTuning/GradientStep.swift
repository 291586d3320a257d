import Kernels
import Transformer

/// A tensor of the adapter inside the flat buffers of a `GradientStep`.
public struct TrainedTensor: Sendable, Equatable {
    /// As PEFT names it.
    public let name: String
    public let shape: [Int]
    /// Its numbers in `parameters` and `gradients`, row-major.
    public let range: Range<Int>

    public init(name: String, shape: [Int], range: Range<Int>) {
        self.name = name
        self.shape = shape
        self.range = range
    }
}

/// The part of training that knows the model: losses and gradients of packed rows.
///
/// `Transformer.TrainingStep` is the one that counts; tests use small models of their own.
public protocol GradientStep: AnyObject {
    /// All trained numbers, `[1, count]` float32.
    var parameters: Matrix { get }
    /// Their gradients in the same order.
    var gradients: Matrix { get }
    var trainedTensors: [TrainedTensor] { get }
    /// The most tokens of one call.
    var maximumRows: Int { get }

    func zeroGradients()
    /// Zeroes the gradients for the optimizer step of this number, from 0, which steers what is random in it.
    func beginStep(_ number: Int)
    /// Adds `lossWeight` times the gradient of the labels' loss sum to `gradients`.
    func accumulate(
        tokens: [Int32], spanLengths: [Int], labels: [Int32], lossWeight: Float
    ) throws -> (lossSum: Double, labelCount: Int)
    /// The loss sum alone.
    func evaluate(
        tokens: [Int32], spanLengths: [Int], labels: [Int32]
    ) throws -> (lossSum: Double, labelCount: Int)
    /// Must be called after `parameters` were written to.
    func parametersChanged() throws
}

extension GradientStep {
    public func beginStep(_ number: Int) { zeroGradients() }
}

extension TrainingStep: GradientStep {
    public var trainedTensors: [TrainedTensor] {
        tensors.map { TrainedTensor(name: $0.name, shape: $0.shape, range: $0.range) }
    }
}
