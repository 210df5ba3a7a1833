//! What a declaration answers to a batch is what a check of the whole would answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use proptest::prelude::*;
use proptest::sample::select;
use segue_proto::config::v1::Resource;
use segue_shared::ids::{Revision, ServiceName};

use super::super::{
    Base, Declaration, Kind, MeshConfig, Parsed, ResourceKey, SourceText, check, key, parse,
    parse_typed,
};
use super::text;

const NAMES: &[&str] = &["a", "b", "c"];
const VERSIONS: &[&str] = &["v1", "v2", "v3"];

fn service() -> impl Strategy<Value = String> {
    let versions = prop::collection::vec((select(VERSIONS), 0u8..6, 1u8..4), 1..4);
    let hosts =
        prop::collection::vec(select(&["a", "b.default", "x.example", "Y.example"][..]), 0..2);
    let depends = prop::collection::vec(select(NAMES), 0..2);
    let port = select(&[80, 80, 81][..]);
    (select(NAMES), versions, hosts, depends, port).prop_map(
        |(name, versions, hosts, depends, port)| {
            let mut text =
                format!("kind: Service\nmetadata: {{name: {name}}}\nspec:\n  port: {port}\n");
            let _ = writeln!(text, "  hosts: [{}]", hosts.join(", "));
            let depends: Vec<String> = depends.iter().map(|it| format!("{{name: {it}}}")).collect();
            let _ = writeln!(text, "  dependsOn: [{}]\n  versions:", depends.join(", "));
            for (version, fate, last) in versions {
                let stage = if fate == 0 { ", lifecycle: {stage: Retired}" } else { "" };
                let endpoint = format!("[\"127.0.0.{last}:80\"]");
                let _ = writeln!(text, "    - {{name: {version}, endpoints: {endpoint}{stage}}}");
            }
            text
        },
    )
}

fn route() -> impl Strategy<Value = String> {
    let split = select(&["", "  splitBy: {session: {}}\n", "  splitBy: {header: x-user}\n"][..]);
    let backend = || (select(NAMES), select(VERSIONS), select(&["", ", port: 81"][..]));
    (select(NAMES), select(NAMES), split, backend(), prop::option::of(backend())).prop_map(
        |(name, target, split, (to, version, port), mirror)| {
            let mut text = format!("kind: Route\nmetadata: {{name: {name}}}\nspec:\n  targetRef: {{name: {target}}}\n{split}  rules:\n");
            let _ = writeln!(text, "    - backendRefs: [{{name: {to}, version: {version}{port}}}]");
            if let Some((to, version, port)) = mirror {
                let backend = format!("{{name: {to}, version: {version}{port}}}");
                let _ = writeln!(
                    text,
                    "      filters: [{{type: RequestMirror, requestMirror: {{backendRef: {backend}}}}}]"
                );
            }
            text
        },
    )
}

fn policy() -> impl Strategy<Value = String> {
    let spec = select(
        &[
            ("TrafficPolicy", ", connectionPool: {maxRequests: 5}"),
            ("TrafficPolicy", ", connectionPool: {maxRequests: 6}"),
            ("AccessPolicy", ", mtls: Strict"),
            ("ContextPolicy", ", sessionKey: [{header: x-a}]"),
            ("ContextPolicy", ", sessionKey: [{cookie: b}]"),
            ("Rollout", ", from: v1, to: v2, steps: [{weight: 100}]"),
            ("Rollout", ", from: v2, to: v3, steps: [{weight: 100}]"),
        ][..],
    );
    (select(NAMES), select(NAMES), spec).prop_map(|(name, target, (kind, spec))| {
        format!("kind: {kind}\nmetadata: {{name: {name}}}\nspec: {{targetRef: {{name: {target}}}{spec}}}\n")
    })
}

#[derive(Clone, Debug)]
struct Batch {
    documents: Vec<String>,
    deletes: Vec<ResourceKey>,
    /// Whether the documents come as messages.
    typed: bool,
}

fn batch() -> impl Strategy<Value = Batch> {
    let broken = Just("kind: Service\nmetadata: {name: a}\nspec: {port: x}\n".to_owned());
    let document = prop_oneof![8 => service(), 6 => route(), 6 => policy(), 1 => broken];
    let delete = (select(&Kind::ALL[..]), select(NAMES))
        .prop_map(|(kind, name)| ResourceKey::new(kind, "default", name));
    (prop::collection::vec(document, 0..5), prop::collection::vec(delete, 0..3), any::<bool>())
        .prop_map(|(documents, deletes, typed)| Batch { documents, deletes, typed })
}

/// A base that many batches fit on.
const START: &str = "\
kind: Service
metadata: {name: a}
spec: {versions: [{name: v1}, {name: v2}, {name: v3}]}
---
kind: Service
metadata: {name: b}
spec: {versions: [{name: v1}, {name: v2}], dependsOn: [{name: a}]}
---
kind: Service
metadata: {name: c}
spec: {versions: [{name: v1}]}
---
kind: ContextPolicy
metadata: {name: a}
spec: {targetRef: {name: a}, sessionKey: [{header: x-a}]}
---
kind: Route
metadata: {name: a}
spec: {targetRef: {name: a}, splitBy: {session: {}}, rules: [{backendRefs: [{name: a, version: v2}]}]}
";

/// The same base, which nothing is known of.
fn unchecked(model: &BTreeMap<ResourceKey, Resource>) -> Base {
    Base::Unchecked(model.values().cloned().collect())
}

fn whole(model: &BTreeMap<ResourceKey, Resource>) -> Vec<Parsed> {
    model.values().map(|resource| parse_typed(resource.clone()).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_batch_meets_the_same_answer_as_a_check_of_the_whole(
        batches in prop::collection::vec(batch(), 1..8),
    ) {
        let start = super::parsed(START).into_iter().map(|it| it.resource);
        let mut model: BTreeMap<ResourceKey, Resource> =
            start.map(|resource| (key(&resource), resource)).collect();
        let mut declared = Declaration::read(Revision(1), model.values().cloned()).unwrap();
        for (i, batch) in batches.into_iter().enumerate() {
            let revision = Revision(i as u64 + 2);
            let mut files: Vec<SourceText> = batch
                .documents
                .iter()
                .enumerate()
                .map(|(i, document)| text(&format!("{}.yaml", 9 - i), document))
                .collect();
            let mut typed = Vec::new();
            if batch.typed && files.iter().all(|file| parse(std::slice::from_ref(file)).is_ok()) {
                typed = files.drain(..).flat_map(|file| super::parsed(&file.content)).map(|it| it.resource).collect();
            }
            let step = declared.admit(revision, &files, &typed, &batch.deletes);
            let full = unchecked(&model).admit(revision, &files, &typed, &batch.deletes);
            let (step, full) = match (step, full) {
                (Ok(step), Ok(full)) => (step, full),
                (step, full) => {
                    let (step, full) = (step.map(|it| it.batch), full.map(|it| it.batch));
                    prop_assert_eq!(&step, &full);
                    // No refusal without a reason that people can act on.
                    prop_assert!(!format!("{step:?}").contains("bug of Segue"), "{step:?}");
                    continue;
                }
            };
            prop_assert_eq!(&step.batch, &full.batch);
            for key in &batch.deletes {
                model.remove(key);
            }
            model.extend(step.batch.iter().map(|resource| (key(resource), resource.clone())));
            prop_assert_eq!(Ok(MeshConfig::clone(step.next.mesh())), check(revision, &whole(&model)));
            prop_assert_eq!(step.next.indexes(), full.next.indexes());
            declared = step.next;
        }
    }
}

#[test]
fn what_a_batch_leaves_alone_is_shared() {
    let base = super::parsed(START).into_iter().map(|it| it.resource);
    let base = Declaration::read(Revision(1), base).unwrap();
    let moved = "kind: Service\nmetadata: {name: c}\n\
                 spec: {versions: [{name: v1, endpoints: ['127.0.0.1:80']}]}";
    let next = base.admit(Revision(2), &[text("a.yaml", moved)], &[], &[]).unwrap().next;
    assert_eq!((next.revision(), base.revision()), (Revision(2), Revision(1)));
    let differ: Vec<ServiceName> = base
        .mesh()
        .services
        .diff(&next.mesh().services)
        .map(|item| match item {
            imbl::ordmap::DiffItem::Update { new: (name, _), .. } => name.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(differ, [ServiceName::new("default", "c")]);
    assert_eq!(base.mesh().routes, next.mesh().routes);
}

/// Prints what a large mesh costs. `cargo test -p segue-control-plane-core at_scale -- --ignored
/// --nocapture`, optimised.
#[test]
#[ignore = "prints times, which are judged by people"]
fn at_scale() {
    const SERVICES: usize = 10_000;
    let mut yaml = String::new();
    for n in 0..SERVICES {
        let next = (n + 1) % SERVICES;
        let _ = write!(
            yaml,
            "kind: Service\nmetadata: {{name: s{n}}}\nspec:\n  dependsOn: [{{name: s{next}}}]\n  \
             versions:\n    - {{name: v1, endpoints: ['10.0.0.1:80', '10.0.0.2:80']}}\n    - \
             {{name: v2, endpoints: ['10.0.1.1:80']}}\n    - {{name: v3, endpoints: \
             ['10.0.2.1:80']}}\n---\n{}---\n",
            weighted(n, 5)
        );
    }
    let begun = Instant::now();
    let resources: Vec<Resource> = yaml_files(&yaml)
        .iter()
        .flat_map(|file| parse(std::slice::from_ref(file)).unwrap())
        .map(|parsed| parsed.resource)
        .collect();
    println!("parse of {} resources: {:?}", resources.len(), begun.elapsed());
    let begun = Instant::now();
    let base = Declaration::read(Revision(1), resources).unwrap();
    println!("read: {:?}", begun.elapsed());

    let mut next = base.clone();
    let mut times = Vec::new();
    for n in 0..200 {
        let file = [text("weight.yaml", &weighted(n * 37, 6))];
        let begun = Instant::now();
        next = next.admit(Revision(2), &file, &[], &[]).unwrap().next;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!("admit of a weight: median {:?}, most {:?}", times[100], times[199]);
    assert_eq!(next.differences(&base), 200);
    let begun = Instant::now();
    let file = [text("bad.yaml", &weighted(5, 6).replace("v2", "v9"))];
    assert!(base.admit(Revision(2), &file, &[], &[]).is_err());
    println!("refusal of a weight: {:?}", begun.elapsed());
    let begun = Instant::now();
    let file = [text("bad.yaml", &weighted(5, 6).replace("name: s5", "name: nobody"))];
    assert!(base.admit(Revision(2), &file, &[], &[]).is_err());
    println!("refusal of an unknown service: {:?}", begun.elapsed());
}

/// A route of the service that gives v2 a weight of 100.
fn weighted(n: usize, v2: u32) -> String {
    format!(
        "kind: Route\nmetadata: {{name: r{n}}}\nspec:\n  targetRef: {{name: s{n}}}\n  rules:\n    - \
         backendRefs:\n        - {{name: s{n}, version: v1, weight: {}}}\n        - {{name: s{n}, \
         version: v2, weight: {v2}}}\n",
        100 - v2
    )
}

/// The documents, some hundred a file.
fn yaml_files(yaml: &str) -> Vec<SourceText> {
    let documents: Vec<&str> = yaml.split("---\n").collect();
    documents.chunks(500).map(|some| text("all.yaml", &some.join("---\n"))).collect()
}
