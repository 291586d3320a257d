import Foundation
import JSONModel
import LinuxSystem
import Testing

/// The built `loraq` with the built `loraqd`, and a plugin that is known but never started, so that its jobs wait.
@Suite struct BrokerLifeTests {
    private final class Broker: Sendable {
        let tool: Tool

        init() throws {
            tool = try Tool()
            let plugin = tool.folder + "/plugins/idle"
            try DurableFile.createDirectories(plugin)
            try DurableFile.write(
                """
                {"name": "idle", "version": "1", "protocol": "LQP/1", "exec": ["/bin/true"], "instances": 0,
                 "kinds": [{"name": "nap", "class": "slot"}]}
                """, to: plugin + "/worker.json")
        }

        deinit { _ = try? tool.run("down", "--timeout", "20") }

        /// Starts the broker; gives what `up --json` says.
        @discardableResult
        func up() throws -> JSONValue {
            let outcome = try tool.run("up", "--json", "--workers", tool.folder + "/plugins")
            guard outcome.status == 0 else {
                Issue.record("loraq up: \(outcome.errors)")
                return .null
            }
            return try JSONValue.parse(outcome.output)
        }

        /// Polls until `condition` holds; a minute stands for never.
        func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
            let deadline = MonotonicTime.now() + .seconds(60)
            while MonotonicTime.now() < deadline {
                if try condition() { return true }
                usleep(20_000)
            }
            return false
        }
    }

    @Test func upPingDown() throws {
        let broker = try Broker()
        let tool = broker.tool
        let first = try broker.up()
        #expect(first["already_running"]?.bool == false)
        let pid = try #require(first["pid"]?.integer)
        #expect(kill(pid_t(pid), 0) == 0)
        let second = try broker.up()
        #expect(second["already_running"]?.bool == true)
        #expect(second["pid"]?.integer == pid)
        #expect(try tool.run("ping").status == 0)
        #expect(try JSONValue.parse(tool.run("ping", "--json").output)["broker_version"] != nil)
        #expect(try JSONValue.parse(tool.run("jobs", "--json").output) == ["jobs": []])
        let unknown = try tool.run("status", "nothing-of-that-name")
        #expect(unknown.status == 1)
        #expect(unknown.errors.contains("(UNKNOWN_JOB)"))
        let down = try tool.run("down")
        #expect(down.status == 0)
        #expect(down.output == "the broker (process \(pid)) has ended\n")
        #expect(try tool.run("ping").status == 3)
    }

    @Test func aWaitOutlivesAKilledBroker() throws {
        let broker = try Broker()
        let tool = broker.tool
        let pid = try #require(try broker.up()["pid"]?.integer)
        let waiting = try tool.start([
            "submit", "nap", "{}", "--label", "siesta", "--wait", "--timeout", "120",
        ])
        #expect(broker.eventually { !waiting.outputSoFar.isEmpty })
        let id = waiting.outputSoFar.trimmingCharacters(in: .whitespacesAndNewlines)
        kill(pid_t(pid), SIGKILL)
        #expect(broker.eventually { waiting.errorsSoFar.contains("the broker went away") })
        #expect(try broker.up()["already_running"]?.bool == false)
        #expect(broker.eventually { waiting.errorsSoFar.contains("the broker is back") })
        #expect(waiting.isRunning)
        // Accepted before the kill, so it is still there, by id and by label.
        let job = try JSONValue.parse(tool.run("status", "siesta", "--json").output)
        #expect(job["job"]?.string == id)
        #expect(try tool.run("cancel", String(id.suffix(8))).status == 0)
        let ended = waiting.finish()
        #expect(ended.status == 1)
        #expect(ended.errors.components(separatedBy: "the broker went away").count == 2)
    }

    @Test func interruptsAndTimeoutsLeaveTheJob() throws {
        let broker = try Broker()
        let tool = broker.tool
        try broker.up()
        let late = try tool.run("submit", "nap", "{}", "--wait", "--timeout", "0.3")
        #expect(late.status == 4)
        let waiting = try tool.start(["wait", "last"])
        #expect(broker.eventually { !waiting.errorsSoFar.isEmpty })
        waiting.interrupt()
        let ended = waiting.finish()
        #expect(ended.status == 130)
        #expect(ended.errors.contains("come back with `loraq wait "))
        let job = try JSONValue.parse(tool.run("status", "--json").output)
        #expect(job["state"]?.string == "queued")
    }

    @Test func theSameIDIsOneJob() throws {
        let broker = try Broker()
        let tool = broker.tool
        try broker.up()
        let id = "01936d5e-7c00-7abc-8def-0123456789ab"
        let first = try tool.run("submit", "nap", "{}", "--id", id)
        #expect(first.output == id + "\n")
        let again = try JSONValue.parse(
            tool.run("submit", "nap", "{}", "--id", id, "--json").output)
        #expect(again["duplicate"]?.bool == true)
        let other = try tool.run("submit", "nap", #"{"x": 1}"#, "--id", id)
        #expect(other.status == 1)
        #expect(other.errors.contains("(CONFLICT)"))
    }
}
