import Testing

@testable import WireProtocol

@Test(arguments: ["a", "A0", "qwen2.5-0.5b_x", String(repeating: "a", count: 64)])
func namesOfTheAlphabetAreTaken(_ text: String) {
    #expect(WireName(text: text)?.text == text)
}

@Test(arguments: [
    "", ".", "..", ".a", "-a", "_a", "a/b", "../a", "a b", "a\n", "ä", "a:b", "a@1", "a\u{0}",
    String(repeating: "a", count: 65), "a\u{301}",
])
func otherNamesAreRefused(_ text: String) {
    #expect(WireName(text: text) == nil)
}

@Test(arguments: ["M", "M:A", "M@2", "M:A@3", "M#stable", "M:A#v1.2", "M:A@999999999"])
func referencesPrintAsTheyWereRead(_ text: String) throws {
    let reference = try #require(ArtifactReference(text: text))
    #expect(reference.text == text)
}

@Test func referencesAreTakenApart() throws {
    let reference = try #require(ArtifactReference(text: "tiny:dates@3"))
    #expect(reference.model.text == "tiny")
    #expect(reference.adapter?.text == "dates")
    #expect(reference.selector == .version(3))
    #expect(reference.name == "tiny:dates")
    #expect(reference.base.text == "tiny")
    #expect(reference.pinned(to: 4).text == "tiny:dates@4")
}

@Test(arguments: [
    "", ":", "M:", ":A", "M:A:B", "M@", "M@0", "M@-1", "M@1x", "M@01", "M@1@2", "M#", "M#a#b",
    "M#a@1",
    "M:A@9999999999", "../M", "M/../x", "M:../A", "M@1#a", " M",
])
func otherReferencesAreRefused(_ text: String) {
    #expect(ArtifactReference(text: text) == nil)
}

@Test func jobIDsAreUUIDv7() throws {
    let id = JobID(timestampMs: 1_732_500_000_123, random: (.max, .max))
    #expect(id.text == "0193610c-0d7b-7fff-bfff-ffffffffffff")
    #expect(id.timestampMs == 1_732_500_000_123)
    #expect(JobID(text: id.text) == id)
    var generator = SystemRandomNumberGenerator()
    let first = JobID(timestampMs: 1, using: &generator)
    let second = JobID(timestampMs: 2, using: &generator)
    #expect(first < second)
    #expect(first.text < second.text)
}

@Test(arguments: [
    "", "01936126-927b-7fff-bfff-fffffffffff", "01936126-927b-7fff-bfff-fffffffffffff",
    "01936126-927b-4fff-bfff-ffffffffffff", "01936126-927b-7fff-cfff-ffffffffffff",
    "01936126-927B-7fff-bfff-ffffffffffff", "01936126_927b_7fff_bfff_ffffffffffff",
    "01936126-927b-7fff-bfff-fffffffffffg", "é1936126-927b-7fff-bfff-fffffffffff",
])
func otherJobIDsAreRefused(_ text: String) {
    #expect(JobID(text: text) == nil)
}

@Test func taskIDsHoldJobAndIndex() throws {
    let job = "01936126-927b-7fff-bfff-ffffffffffff"
    let task = try #require(TaskID(text: "\(job)/17"))
    #expect(task.index == 17)
    #expect(task.text == "\(job)/17")
    for bad in [job, "\(job)/", "\(job)/-1", "\(job)/01", "\(job)/1/2", "x/1", "\(job)/1234567890"]
    {
        #expect(TaskID(text: bad) == nil)
    }
}

@Test func leasesAndDigestsAreHexadecimal() {
    let text = "00112233445566778899aabbccddeeff"
    #expect(LeaseToken(text: text)?.text == text)
    #expect(LeaseToken(text: text.uppercased()) == nil)
    #expect(LeaseToken(text: String(text.dropLast())) == nil)
    let hex = String(repeating: "0a", count: 32)
    #expect(BlobDigest(text: "sha256:" + hex)?.hex == hex)
    #expect(BlobDigest(text: hex) == nil)
    #expect(BlobDigest(text: "sha256:" + hex.dropLast()) == nil)
    #expect(BlobDigest(text: "sha256:" + hex.uppercased()) == nil)
}
