extension Core {
    // MARK: Names

    /// What a reference means now.
    func resolve(_ text: String) -> ArtifactRecord? {
        guard let reference = ArtifactReference(text: text) else { return nil }
        let all = versions[reference.name] ?? []
        switch reference.selector {
        case .newest: return all.last
        case .version(let version): return all.last { $0.version == version }
        case .tag(let tag): return all.last { $0.tags.contains(tag) }
        }
    }

    func artifact(_ key: ArtifactKey) -> ArtifactRecord? {
        versions[key.name]?.last { $0.version == key.version }
    }

    func unknownArtifact(_ reference: String, after: Bool = false) -> BrokerError {
        BrokerError(
            .unknownArtifact, .user,
            "there is no artifact \"\(reference)\""
                + (after ? ", and no job that this one comes after produces it" : ""),
            hint: "loraq models list, loraq adapters list",
            details: ["reference": .text(reference)])
    }

    // MARK: Bindings

    /// Binds a reference of a job for good; nil if nothing has that name.
    func bind(_ job: LiveJob, _ reference: String) -> ArtifactKey? {
        if let entry = job.bindings[reference], let key = entry { return key }
        guard let found = resolve(reference) else { return nil }
        if job.bindings[reference] != nil { unnameUse(reference) }
        job.bindings[reference] = .some(found.key)
        boundUses[found.key, default: 0] += 1
        store(.bind(jobSequence: job.sequence, reference: reference, found.key))
        return found.key
    }

    /// The set of what a task names, bound; an adapter brings the version of its base along.
    func referenceSet(_ job: LiveJob, _ references: [String]) -> Result<ReferenceSet, BrokerError> {
        if references.isEmpty { return .success(.empty) }
        if let known = job.referenceSets[references] { return .success(known) }
        var bindings: [(reference: String, key: ArtifactKey)] = []
        var digests: [Digest] = []
        func add(_ reference: String, _ record: ArtifactRecord) {
            guard !bindings.contains(where: { $0.reference == reference }) else { return }
            bindings.append((reference, record.key))
            digests.append(record.digest)
        }
        for reference in references {
            guard let key = bind(job, reference) else {
                return .failure(unknownArtifact(reference))
            }
            guard let record = artifact(key) else {
                return .failure(
                    BrokerError(
                        .unknownArtifact, .user,
                        "\(key), to which \"\(reference)\" was bound, has been removed"))
            }
            if let parent = record.parentName, let version = record.parentVersion {
                guard let base = artifact(ArtifactKey(name: parent, version: version)) else {
                    return .failure(
                        BrokerError(
                            .unknownArtifact, .user,
                            "\(parent)@\(version), the base of \(key), has been removed"))
                }
                add(parent, base)
            }
            add(reference, record)
        }
        let set = ReferenceSet(references: references, bindings: bindings, digests: digests)
        if job.referenceSets.count < limits.referencesPerJob { job.referenceSets[references] = set }
        return .success(set)
    }

    func nameUse(_ reference: String) {
        guard let name = ArtifactReference(text: reference)?.name else { return }
        namedUses[name, default: 0] += 1
    }

    private func unnameUse(_ reference: String) {
        guard let name = ArtifactReference(text: reference)?.name else { return }
        namedUses[name, default: 1] -= 1
        if namedUses[name] == 0 { namedUses[name] = nil }
    }

    func releaseUses(_ job: LiveJob) {
        for (reference, key) in job.bindings {
            guard let key else {
                unnameUse(reference)
                continue
            }
            boundUses[key, default: 1] -= 1
            if boundUses[key] == 0 { boundUses[key] = nil }
        }
    }

    // MARK: Registration, tags, removal

    func restoreArtifact(_ record: ArtifactRecord) {
        versions[record.name, default: []].append(record)
        lastVersions[record.name] = max(lastVersions[record.name] ?? 0, record.version)
        artifactCount += 1
    }

    /// Registers what a job's accepted result brought, as the next version of its name.
    func register(_ reported: ReportedArtifact, by job: LiveJob) {
        let version = (lastVersions[reported.name] ?? 0) + 1
        var record = ArtifactRecord(
            type: reported.type, name: reported.name, version: version, digest: reported.digest,
            bytes: reported.bytes, path: reported.path, meta: reported.meta, createdAt: wall)
        record.job = job.id
        if let parent = record.parentName {
            // The version that the job was bound to, itself or through an adapter of it, else the newest.
            let keys = job.bindings.values.compactMap { $0 }
            let bound =
                keys.filter { $0.name == parent }.map(\.version).max()
                ?? keys.compactMap { artifact($0) }.filter { $0.parentName == parent }
                .compactMap(\.parentVersion).max()
            record.parentVersion = bound ?? versions[parent]?.last?.version
        }
        restoreArtifact(record)
        store(.insertArtifact(record))
        publish("artifact.registered") {
            $0.job = job.id
            $0.jobSequence = job.sequence
            $0.artifact = record.reference
        }
    }

    func setTag(_ reference: String, _ tag: String, remove: Bool, _ request: RequestID) {
        guard isArtifactWord(tag) else {
            return reply(
                request,
                .failed(BrokerError(.invalidSpec, .user, "\"\(tag)\" is not a tag")))
        }
        guard let record = resolve(reference), var all = versions[record.name] else {
            return reply(request, .failed(unknownArtifact(reference)))
        }
        for position in all.indices {
            if all[position].version == record.version, !remove {
                if !all[position].tags.contains(tag) { all[position].tags.append(tag) }
            } else if !remove || all[position].version == record.version {
                all[position].tags.removeAll { $0 == tag }
            }
        }
        versions[record.name] = all
        let isSet = all.contains { $0.tags.contains(tag) }
        if !remove || !isSet {
            store(.setTag(name: record.name, tag: tag, version: remove ? nil : record.version))
        }
        if let tagged = artifact(record.key) { reply(request, .tagged(tagged)) }
    }

    func removeArtifact(_ text: String, force: Bool, _ request: RequestID) {
        guard let reference = ArtifactReference(text: text), let record = resolve(text) else {
            return reply(request, .failed(unknownArtifact(text)))
        }
        let isWhole = reference.selector == .newest
        let own = isWhole ? versions[record.name] ?? [] : [record]
        let children = versions.values.joined().filter { child in
            child.parentName == record.name
                && (isWhole || own.contains { $0.version == child.parentVersion })
        }.sorted { ($0.name, $0.version) < ($1.name, $1.version) }
        if !force, !children.isEmpty {
            return reply(
                request,
                .failed(
                    BrokerError(
                        .inUse, .user, "\(text) is the base of \(children.count) adapters",
                        hint: "remove those first, or all with --force",
                        details: ["adapters": .list(children.prefix(20).map(\.reference))])))
        }
        let all = children + own
        if let holder = holder(of: all, wholeName: isWhole) {
            return reply(request, .failed(holder))
        }
        for gone in all {
            versions[gone.name]?.removeAll { $0.version == gone.version }
            if versions[gone.name]?.isEmpty == true { versions[gone.name] = nil }
            artifactCount -= 1
            store(.deleteArtifact(gone.key))
            publish("artifact.removed") { $0.artifact = gone.reference }
        }
        act(.artifactsRemoved(all))
        reply(request, .removed(all.map(\.reference)))
    }

    /// The refusal, if an unfinished job needs one of these.
    private func holder(of records: [ArtifactRecord], wholeName: Bool) -> BrokerError? {
        let names = Set(records.map(\.name))
        let isUsed =
            records.contains { boundUses[$0.key] != nil }
            || names.contains { name in
                namedUses[name] != nil
                    && (wholeName || records.contains { $0.key == versions[name]?.last?.key })
            }
        guard isUsed else { return nil }
        // Rare, and only to name the job: a walk over the unfinished ones.
        let job = jobs.values.filter { job in
            !job.status.state.isFinal
                && job.bindings.contains { reference, key in
                    if let key { return records.contains { $0.key == key } }
                    return ArtifactReference(text: reference).map { names.contains($0.name) }
                        ?? false
                }
        }.min { $0.sequence < $1.sequence }
        return BrokerError(
            .inUse, .user,
            "an unfinished job needs it: \(job?.id.text ?? "unknown")",
            hint: "wait for its end, or cancel it",
            details: job.map { ["job": .text($0.id.text)] } ?? [:])
    }
}
