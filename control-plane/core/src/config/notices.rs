//! What a batch says that nothing acts on yet. It is checked and kept, and whoever applies it is
//! told, so that nobody relies on a policy that is not enforced.

use segue_proto::config::v1::resource::Resource as Kind;
use segue_proto::config::v1::upstream_tls::Mode;
use segue_proto::config::v1::{
    AccessPolicySpec, Protocol, Resource, ServiceSpec, TrafficPolicySpec,
};

use super::key::key;

/// One line for each resource and thing that has no effect yet, in the order of the batch.
pub fn notices<'a>(batch: impl IntoIterator<Item = &'a Resource>) -> Vec<String> {
    batch
        .into_iter()
        .flat_map(|resource| {
            let name = key(resource);
            let without_effect = match &resource.resource {
                Some(Kind::Service(service)) => service.spec.as_ref().map(of_service),
                Some(Kind::TrafficPolicy(policy)) => policy.spec.as_ref().map(of_traffic),
                Some(Kind::AccessPolicy(policy)) => policy.spec.as_ref().map(of_access),
                Some(Kind::ContextPolicy(_)) => Some(vec![
                    "its first header or cookie splits callers among versions; pins and caches are \
                     not kept yet",
                ]),
                Some(Kind::Rollout(_)) => {
                    Some(vec!["it is not carried out yet: move traffic by the weights of a Route"])
                }
                Some(Kind::Route(_)) | None => None,
            };
            without_effect
                .unwrap_or_default()
                .into_iter()
                .map(move |what| format!("{name}: {what}"))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn of_service(spec: &ServiceSpec) -> Vec<&'static str> {
    let mut found = Vec::new();
    if spec.protocol() == Protocol::Tcp {
        found.push("Envoys and gRPC clients do not carry protocol tcp yet: sidecars do");
    }
    if spec.versions.iter().any(|version| version.lifecycle.is_some()) {
        found.push("lifecycle is not told to callers yet");
    }
    found
}

/// Faults are made, and identities asked for.
fn of_access(spec: &AccessPolicySpec) -> Vec<&'static str> {
    let known = AccessPolicySpec {
        target_ref: spec.target_ref.clone(),
        fault: spec.fault.clone(),
        mtls: spec.mtls,
        ..AccessPolicySpec::default()
    };
    let mut found = Vec::new();
    if *spec != known {
        found.push(
            "only mtls and fault are enforced yet: every caller is let through that shows what \
             mtls asks for",
        );
    }
    if spec.fault.is_some() {
        found.push("gRPC clients without a proxy make no faults");
    }
    found
}

fn of_traffic(spec: &TrafficPolicySpec) -> Vec<&'static str> {
    let mut found = Vec::new();
    if spec.tls.as_ref().is_some_and(|tls| tls.mode() == Mode::Simple) {
        found.push("the mode Simple of tls has no effect yet: sidecars speak plain text");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{SourceText, parse};
    use super::*;

    fn told(yaml: &str) -> Vec<String> {
        let file = SourceText { name: "f.yaml".to_owned(), content: yaml.to_owned() };
        let batch: Vec<Resource> =
            parse(&[file]).unwrap().into_iter().map(|parsed| parsed.resource).collect();
        notices(&batch)
    }

    #[test]
    fn a_policy_that_is_not_enforced_is_told() {
        let yaml = "apiVersion: segue.dev/v1alpha1
kind: AccessPolicy
metadata: {name: chat}
spec:
  targetRef: {name: chat}
  rules: [{name: nobody, action: Deny}]
";
        let told = told(yaml);
        assert!(told[0].starts_with("AccessPolicy default/chat: only mtls and fault"), "{told:?}");
    }

    #[test]
    fn faults_are_made_and_the_rest_of_the_policy_is_told() {
        let policy = "apiVersion: segue.dev/v1alpha1
kind: AccessPolicy
metadata: {name: chat}
spec:
  targetRef: {name: chat}
  fault: {abort: {status: 503, percent: 5%}}
";
        let grpc = "AccessPolicy default/chat: gRPC clients without a proxy make no faults";
        assert_eq!(told(policy), [grpc]);
        assert_eq!(told(&format!("{policy}  mtls: strict\n")), [grpc]);
        let more = format!("{policy}  rules: [{{name: nobody, action: Deny}}]\n");
        assert!(told(&more)[0].contains("only mtls and fault") && told(&more).len() == 2);
    }

    #[test]
    fn what_works_is_not_told() {
        let yaml = "apiVersion: segue.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: chat}
spec:
  targetRef: {name: chat}
  connectionPool: {connectTimeout: 2s, maxRequests: 10, maxAge: 1h}
  loadBalancer: {algorithm: LeastRequest}
  outlierDetection: {}
  healthCheck: {tcp: {}}
  retryBudget: {}
";
        assert_eq!(told(yaml), Vec::<String>::new());
    }
}
