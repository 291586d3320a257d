import Foundation
import Testing

@testable import JSONModel

@Suite struct JSONParserTests {
    @Test func readsAndWritesBackInOrder() throws {
        let text = #"{"b":[1,-2.5,1e3,true,false,null],"a":{"x":"\u00e9\n\"\\"},"":""}"#
        let value = try JSONValue.parse(text)
        #expect(
            value.text()
                == "{\"b\":[1,-2.5,1000.0,true,false,null],\"a\":{\"x\":\"é\\n\\\"\\\\\"},\"\":\"\"}"
        )
        #expect(try JSONValue.parse(value.serialized(pretty: true)) == value)
        #expect(value.object?.keys == ["b", "a", ""])
        #expect(value["b"]?.array?[2].integer == 1000)
        #expect(value.text(sortedKeys: true).hasPrefix(#"{"":"","a""#))
    }

    @Test func canonicallyEqualKeysAreDifferent() throws {
        let value = try JSONValue.parse("{\"\u{e9}\":1,\"e\u{301}\":2}")
        #expect(value.object?.count == 2)
        #expect(value["\u{e9}"] == 1)
        #expect(value["e\u{301}"] == 2)
        #expect(JSONValue.string("\u{e9}") != JSONValue.string("e\u{301}"))
    }

    @Test(arguments: [
        "", " ", "{", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "01", "1.", "-", "1e", "tru", "nul", "NaN",
        "\"abc", "\"\\x\"", "\"\\ud800\"", "\"\\udc00\\ud800\"", "\"\\u12g4\"", "\"a\u{1}b\"",
        "[1] 2",
        "{\"a\":1,\"a\":2}", "1e999", "'a'", "[1 2]", "\"\\", "\"\\u00",
    ])
    func refusesMalformedText(_ text: String) {
        #expect(throws: JSONError.self) { try JSONValue.parse(text) }
    }

    @Test func refusesInvalidUTF8AndDepth() {
        #expect(throws: JSONError.self) {
            try JSONValue.parse([UInt8(ascii: "\""), 0xC3, 0x28, UInt8(ascii: "\"")])
        }
        let deep = String(repeating: "[", count: 200) + String(repeating: "]", count: 200)
        #expect(throws: JSONError.self) { try JSONValue.parse(deep) }
        #expect(throws: Never.self) { try JSONValue.parse(deep, maximumDepth: 200) }
    }

    @Test func namesLineAndColumn() {
        let error = #expect(throws: JSONError.self) {
            try JSONValue.parse("{\n  \"a\": 1,\n  b\n}")
        }
        #expect(error?.line == 3)
        #expect(error?.column == 3)
    }

    @Test func surrogatePairsAndLargeIntegers() throws {
        #expect(try JSONValue.parse(#""\ud83d\ude00""#) == "😀")
        #expect(try JSONValue.parse("9223372036854775807") == .integer(.max))
        #expect(try JSONValue.parse("9223372036854775808").double == 9223372036854775808.0)
    }

    @Test func manyKeysAreCheckedForRepeats() throws {
        let members = (0..<200).map { "\"k\($0)\":\($0)" }
        #expect(try JSONValue.parse("{\(members.joined(separator: ","))}").object?.count == 200)
        #expect(throws: JSONError.self) {
            try JSONValue.parse("{\(members.joined(separator: ",")),\"k150\":0}")
        }
    }

    @Test func passesThroughCodable() throws {
        let value = try JSONValue.parse(#"{"a":[1,2.5,"x",null,true],"b":{}}"#)
        let data = try JSONEncoder().encode(value)
        #expect(try JSONDecoder().decode(JSONValue.self, from: data) == value)
    }
}
