//! Certificates as attackers and mistakes make them.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::KeyUsage;

use super::*;
use crate::spiffe::{SpiffeId, TrustDomain};

type Issuer = CertifiedIssuer<'static, KeyPair>;
type Change<'a> = &'a dyn Fn(&mut CertificateParams);

const CHAT: &str = "spiffe://mesh.test/ns/default/sa/chat";

fn domain() -> TrustDomain {
    "mesh.test".parse().unwrap()
}

fn of_authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn root(name: &str) -> Issuer {
    CertifiedIssuer::self_signed(of_authority(name), KeyPair::generate().unwrap()).unwrap()
}

fn below(name: &str, issuer: &Issuer) -> Issuer {
    CertifiedIssuer::signed_by(of_authority(name), KeyPair::generate().unwrap(), issuer).unwrap()
}

fn named(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names =
        uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn signed(params: &CertificateParams, issuer: &Issuer) -> CertificateDer<'static> {
    params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
}

fn verifier(authority: &Issuer, expected: Expected) -> MeshVerifier {
    let bundle = TrustBundle::new(domain(), vec![authority.der().clone()]).unwrap();
    let algorithms = default_provider().signature_verification_algorithms;
    MeshVerifier::new(Arc::new(bundle), expected, algorithms)
}

/// 2026.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000))
}

fn judged(
    verifier: &MeshVerifier,
    leaf: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
) -> Result<String, &'static str> {
    let as_client = verifier.verify(leaf, chain, KeyUsage::client_auth(), now());
    let as_server = verifier.verify(leaf, chain, KeyUsage::server_auth(), now());
    assert_eq!(as_client, as_server, "both ends are judged alike");
    as_client.map(|svid| svid.id.to_string()).map_err(|refusal| refusal.reason())
}

#[test]
fn a_workload_is_believed_through_an_intermediate() {
    let root = root("root");
    let intermediate = below("intermediate", &root);
    let leaf = signed(&named(&[CHAT]), &intermediate);
    let verifier = verifier(&root, Expected::Anyone);
    let chain = [intermediate.der().clone()];
    assert_eq!(judged(&verifier, &leaf, &chain), Ok(CHAT.to_owned()));
    assert_eq!(judged(&verifier, &leaf, &[]), Err("unknown_authority"));
}

/// Names, usages and times that nobody of ours would sign.
#[test]
fn what_is_not_the_certificate_of_one_workload_is_refused_with_a_reason() {
    let root = root("root");
    let verifier = verifier(&root, Expected::Anyone);
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = named(&[CHAT]);
        change(&mut params);
        judged(&verifier, &signed(&params, &root), &[])
    };
    assert!(with(&|_| {}).is_ok());
    let changes: [(&str, &str, Change<'_>); 19] = [
        ("no name", "san", &|it| it.subject_alt_names.clear()),
        ("a common name", "san", &|it| {
            it.subject_alt_names.clear();
            it.distinguished_name.push(DnType::CommonName, CHAT);
        }),
        ("a name of DNS", "san", &|it| {
            it.subject_alt_names = vec![SanType::DnsName("chat.test".try_into().unwrap())];
        }),
        ("two names", "san", &|it| {
            it.subject_alt_names = named(&[CHAT, "spiffe://mesh.test/other"]).subject_alt_names;
        }),
        ("the same name twice", "san", &|it| {
            it.subject_alt_names = named(&[CHAT, CHAT]).subject_alt_names;
        }),
        ("a wildcard", "san", &|it| {
            it.subject_alt_names = named(&["spiffe://mesh.test/*"]).subject_alt_names;
        }),
        ("another scheme", "san", &|it| {
            it.subject_alt_names =
                named(&["https://mesh.test/ns/default/sa/chat"]).subject_alt_names;
        }),
        ("a query", "san", &|it| {
            it.subject_alt_names = named(&["spiffe://mesh.test/chat?x"]).subject_alt_names;
        }),
        ("another domain", "trust_domain", &|it| {
            it.subject_alt_names = named(&["spiffe://mesh.test.evil/chat"]).subject_alt_names;
        }),
        ("expired", "expired", &|it| it.not_after = date_time_ymd(2021, 1, 1)),
        ("not yet valid", "not_yet_valid", &|it| it.not_before = date_time_ymd(2080, 1, 1)),
        ("an authority", "usage", &|it| {
            it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }),
        ("may sign certificates", "usage", &|it| it.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        ("no key usage", "usage", &|it| it.key_usages.clear()),
        ("may only encrypt", "usage", &|it| it.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
        ("no extended usage", "usage", &|it| it.extended_key_usages.clear()),
        ("not for clients", "usage", &|it| {
            it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }),
        ("not for servers", "usage", &|it| {
            it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }),
        ("large", "chain", &|it| {
            let large =
                CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99], vec![4; 100_000]);
            it.custom_extensions = vec![large];
        }),
    ];
    for (what, expected, change) in changes {
        assert_eq!(with(change), Err(expected), "{what}");
    }
}

#[test]
fn nobody_signs_but_the_authorities_of_the_domain() {
    let (root, stranger) = (root("root"), root("root"));
    let verifier = verifier(&root, Expected::Anyone);
    let judged = |leaf: &CertificateDer<'_>, chain: &[_]| judged(&verifier, leaf, chain);
    assert_eq!(judged(&signed(&named(&[CHAT]), &stranger), &[]), Err("unknown_authority"));
    let own = KeyPair::generate().unwrap();
    let itself = named(&[CHAT]).self_signed(&own).unwrap().der().clone();
    assert_eq!(judged(&itself, &[]), Err("unknown_authority"));
    // A workload that signs another one.
    let mut params = named(&[CHAT]);
    let key = KeyPair::generate().unwrap();
    let workload = CertifiedIssuer::signed_by(params.clone(), key, &root).unwrap();
    params.subject_alt_names = named(&["spiffe://mesh.test/forged"]).subject_alt_names;
    let forged = signed(&params, &workload);
    assert_eq!(judged(&forged, &[workload.der().clone()]), Err("unknown_authority"));
    // The authority itself.
    assert_eq!(judged(root.der(), &[]), Err("san"));
    let chain: Vec<_> = (0..20).map(|_| root.der().clone()).collect();
    assert_eq!(judged(&signed(&named(&[CHAT]), &root), &chain), Err("chain"));
    assert_eq!(judged(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]), &[]), Err("unreadable"));
}

#[test]
fn another_workload_than_the_one_that_was_called_is_refused() {
    let root = root("root");
    let ids = |all: &[&str]| Expected::OneOf(all.iter().map(|id| id.parse().unwrap()).collect());
    let leaf = signed(&named(&[CHAT]), &root);
    let other = "spiffe://mesh.test/ns/default/sa/cart";
    let judged = |expected| judged(&verifier(&root, expected), &leaf, &[]);
    assert_eq!(judged(ids(&[other])), Err("other_identity"));
    assert_eq!(judged(ids(&[other, CHAT])), Ok(CHAT.to_owned()));
}

#[test]
fn while_a_root_is_replaced_both_are_believed() {
    let (old, new, third) = (root("root"), root("root"), root("root"));
    let pem = format!("{}\n{}", old.pem(), new.pem());
    let bundle = TrustBundle::from_pem(domain(), pem.as_bytes()).unwrap();
    assert_eq!(bundle.authorities(&domain()).len(), 2);
    let algorithms = default_provider().signature_verification_algorithms;
    let verifier = MeshVerifier::new(Arc::new(bundle), Expected::Anyone, algorithms);
    for (issuer, good) in [(&old, true), (&new, true), (&third, false)] {
        let leaf = signed(&named(&[CHAT]), issuer);
        assert_eq!(judged(&verifier, &leaf, &[]).is_ok(), good);
    }
}

#[test]
fn a_bundle_holds_authorities_only() {
    let root = root("root");
    let leaf = named(&[CHAT]).signed_by(&KeyPair::generate().unwrap(), &root).unwrap();
    let wrong = |pem: &str| TrustBundle::from_pem(domain(), pem.as_bytes()).unwrap_err();
    assert_eq!(wrong(""), BundleError::Empty);
    assert_eq!(wrong("not PEM"), BundleError::Empty);
    let mixed = format!("{}\n{}", root.pem(), leaf.pem());
    assert!(matches!(wrong(&mixed), BundleError::Authority { place: 2, .. }));
    assert_eq!(wrong(&root.pem().repeat(17)), BundleError::TooMany);
}

#[test]
fn the_times_of_a_certificate_are_read() {
    let leaf = signed(&named(&[CHAT]), &root("root"));
    let svid = Svid::read(&leaf).unwrap();
    let since = |time: std::time::SystemTime| {
        time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400
    };
    assert_eq!((since(svid.not_before), since(svid.not_after)), (18_262, 43_830));
    let expected: SpiffeId = CHAT.parse().unwrap();
    assert_eq!(svid.id, expected);
}
