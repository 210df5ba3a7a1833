//! The exact words that people are told.

use segue_shared::ids::Revision;

use super::super::{admit, parse};
use super::text;

/// Faults of a text, one a line.
fn faults(content: &str) -> String {
    match admit(Revision(1), &[], &[text("a.yaml", content)], &[]) {
        Ok(admitted) => format!("no faults in {:?}", admitted.batch),
        Err(faults) => faults.to_string(),
    }
}

const TEN: &str = "\
apiVersion: segue.dev/v1alpha1
kind: Service
metadata: {name: chat}
spec:
  protocol: htttp
  port: 99999
  versions:
    - {name: v1, endpoints: [\"127.0.0.1:9001\", localhost:9002]}
    - {name: v2, endpoint: [\"127.0.0.1:9101\"]}
  defaultVersion: v3
---
apiVersion: segue.dev/v1alpha1
kind: Service
metadata: {name: other}
spec:
  hosts: [chat]
  versions: [{name: v1}]
---
apiVersion: segue.dev/v1alpha1
kind: Route
metadata: {name: chat}
spec:
  targetRef: {name: chat}
  splitBy: {header: x-user, cookie: sid}
  rules:
    - matches: [{path: {type: RegularExpression, value: \"(\"}}]
      timeouts: {request: 30}
      backendRefs:
        - {name: chat, version: v1, weight: 90}
        - {name: chat, version: v2, weight: 20}
    - backendRefs: [{name: chatt}]
";

#[test]
fn ten_faults_are_told_at_once() {
    insta::assert_snapshot!(faults(TEN));
}

#[test]
fn parse_alone_tells_what_single_resources_get_wrong() {
    let told = parse(&[text("a.yaml", TEN)]).unwrap_err();
    assert_eq!(told.0.len(), 6, "{told}");
}
