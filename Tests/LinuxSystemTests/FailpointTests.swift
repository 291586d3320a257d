import LinuxSystem
import Testing

/// That they kill is shown by Tests/python/test_failpoints.py.
@Suite struct FailpointTests {
    @Test(arguments: ["7", "7:1", "7:0:/tmp/x", "999:1:/tmp/x", "-1:1:/tmp/x", "x:1:/tmp/x"])
    func whatIsNoFailpointIsRefused(_ text: String) {
        #expect(throws: SystemError.self) { try Failpoint.arm(text) }
    }

    @Test func unarmedItDoesNothing() throws {
        try Failpoint.arm(nil)
        try Failpoint.arm("")
        for place in Failpoint.allCases { place.reach() }
    }
}
