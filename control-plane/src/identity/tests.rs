use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SanType};
use segue_shared::ids::ServiceName;
use segue_shared::spiffe::{SpiffeId, TrustDomain};
use segue_shared::tls::{Expected, MeshVerifier, Refusal, Svid, TrustBundle};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use webpki::KeyUsage;

use super::*;

const HOUR: Duration = Duration::from_hours(1);

fn embedded(directory: &TempDir) -> Authority {
    Authority::embedded(TrustDomain::default(), directory.path()).unwrap()
}

fn cart() -> SpiffeId {
    SpiffeId::of_service(&TrustDomain::default(), &ServiceName::new("shop", "cart"))
}

fn csr(change: impl Fn(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    change(&mut params);
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

fn judged(
    bundle: &[CertificateDer<'static>],
    chain: &[CertificateDer<'static>],
    at: SystemTime,
) -> Result<Svid, Refusal> {
    let bundle = TrustBundle::new(TrustDomain::default(), bundle.to_vec()).unwrap();
    let algorithms = default_provider().signature_verification_algorithms;
    let verifier = MeshVerifier::new(Arc::new(bundle), Expected::Anyone, algorithms);
    let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let (leaf, above) = chain.split_first().unwrap();
    verifier.verify(leaf, above, KeyUsage::client_auth(), UnixTime::since_unix_epoch(at))
}

#[test]
fn a_workload_gets_a_certificate_for_its_own_key_that_the_mesh_believes() {
    let directory = tempfile::tempdir().unwrap();
    let authority = embedded(&directory);
    let now = SystemTime::now();
    let issued = authority.issue(&cart(), &csr(|_| {}), HOUR, now).unwrap();
    let svid = judged(authority.trust().bundle(), &issued.chain, now).unwrap();
    assert_eq!(svid.id, cart());
    let seconds = |of: SystemTime| of.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(seconds(svid.not_after), seconds(now + HOUR));
    assert!(seconds(svid.not_before) < seconds(now), "clocks of others may be behind");
    let late = now + HOUR + Duration::from_secs(5);
    assert_eq!(judged(authority.trust().bundle(), &issued.chain, late), Err(Refusal::Expired));
    let again = authority.issue(&cart(), &csr(|_| {}), HOUR, now).unwrap();
    assert_ne!(again.chain[0], issued.chain[0]);
}

#[test]
fn the_same_authority_is_there_after_a_restart_and_its_keys_are_this_users_alone() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let first = embedded(&directory);
    let issued = first.issue(&cart(), &csr(|_| {}), HOUR, now).unwrap();
    let second = embedded(&directory);
    assert_eq!(second.trust().bundle(), first.trust().bundle());
    assert!(judged(second.trust().bundle(), &issued.chain, now).is_ok());
    let next = second.issue(&cart(), &csr(|_| {}), HOUR, now).unwrap();
    assert_eq!(next.chain[1], issued.chain[1], "the intermediate is kept");
    for file in fs::read_dir(directory.path().join("ca")).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}

/// At half of its life, so that what it signs never ends with it.
#[test]
fn the_intermediate_is_made_anew_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let authority = embedded(&directory);
    let now = SystemTime::now();
    let first = authority.issue(&cart(), &csr(|_| {}), HOUR, now).unwrap();
    let later = now + Duration::from_hours(24 * 200);
    let second = authority.issue(&cart(), &csr(|_| {}), HOUR, later).unwrap();
    assert_ne!(second.chain[1], first.chain[1]);
    assert!(judged(authority.trust().bundle(), &second.chain, later).is_ok());
    assert_eq!(embedded(&directory).trust().bundle(), authority.trust().bundle());
}

#[test]
fn whoever_asks_for_another_name_gets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let authority = embedded(&directory);
    let issue = |request: &[u8]| {
        authority.issue(&cart(), request, HOUR, SystemTime::now()).map_err(|error| error.reason())
    };
    let own = cart().to_string();
    assert!(issue(&csr(|it| it.subject_alt_names = vec![uri(&own)])).is_ok());
    for names in [
        vec![uri("spiffe://mesh.local/ns/shop/sa/admin")],
        vec![uri(&own), uri("spiffe://mesh.local/ns/shop/sa/admin")],
        vec![SanType::DnsName("cart.test".try_into().unwrap())],
        vec![SanType::IpAddress([127, 0, 0, 1].into())],
    ] {
        let request = csr(|it| it.subject_alt_names.clone_from(&names));
        assert_eq!(issue(&request).err(), Some("other_identity"), "{names:?}");
    }
    let mut forged = csr(|_| {});
    // The last byte is one of the signature.
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(issue(&forged).err(), Some("request"));
    assert_eq!(issue(b"no request").err(), Some("request"));
    assert_eq!(issue(&vec![0x30; 20_000]).err(), Some("request"));
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let request = CertificateParams::default().serialize_request(&ed25519).unwrap();
    assert!(issue(request.der()).is_ok());
}

/// A root of the user's, and an intermediate whose root stays elsewhere.
#[test]
fn the_authority_may_be_the_users_own() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(embedded(&theirs));
    let file = |name: &str| theirs.path().join("ca").join(name);
    let now = SystemTime::now();
    let open = |certificate: &str, key: &str, bundle: Option<&str>| {
        let bundle = bundle.map(file);
        let domain = TrustDomain::default();
        let (certificate, key) = (file(certificate), file(key));
        Authority::of_files(domain, ours.path(), &certificate, &key, bundle.as_deref())
    };
    for (certificate, key, bundle, length) in [
        ("root.pem", "root.key", None, 2),
        ("intermediate.pem", "intermediate.key", Some("root.pem"), 2),
    ] {
        let authority = open(certificate, key, bundle).unwrap();
        let issued = authority.issue(&cart(), &csr(|_| {}), HOUR, now).unwrap();
        assert_eq!(issued.chain.len(), length);
        assert!(judged(authority.trust().bundle(), &issued.chain, now).is_ok(), "{certificate}");
    }
    let wrong = |error: Option<AuthorityError>| error.unwrap().to_string();
    let error = wrong(open("intermediate.pem", "intermediate.key", None).err());
    assert!(error.contains("--ca-bundle"), "{error}");
    let error = wrong(open("root.pem", "intermediate.key", None).err());
    assert!(error.contains("is not the certificate of this key"), "{error}");
    let error = wrong(open("nothing.pem", "root.key", None).err());
    assert!(error.contains("nothing.pem"), "{error}");
}

/// Whatever was issued is believed from one step to the next; what the old root has signed ends with
/// the last step, and a restart comes back to the step that was reached.
#[test]
fn each_step_of_a_rotation_believes_what_the_one_before_has_issued() {
    let directory = tempfile::tempdir().unwrap();
    let authority = embedded(&directory);
    let now = SystemTime::now();
    let mut issued = vec![authority.issue(&cart(), &csr(|_| {}), HOUR, now).unwrap()];
    let first_root = authority.trust().signer();
    for (phase, roots) in
        [(Phase::Distribute, 2), (Phase::Issue, 2), (Phase::Drop, 1), (Phase::Steady, 1)]
    {
        assert_eq!(authority.go_on(false, now).unwrap().phase, phase);
        let trust = authority.trust();
        assert_eq!(trust.bundle().len(), roots, "{phase:?}");
        let again = embedded(&directory);
        assert_eq!(*again.trust(), *trust, "{phase:?}");
        let next = authority.issue(&cart(), &csr(|_| {}), HOUR, now).unwrap();
        assert_eq!(next.root, trust.signer(), "{phase:?}");
        assert_eq!(next.root == first_root, phase == Phase::Distribute);
        issued.push(next);
        for (i, issued) in issued.iter().enumerate() {
            let good = judged(trust.bundle(), &issued.chain, now).is_ok();
            let is_of_old = issued.root == first_root;
            assert_eq!(good, roots == 2 || !is_of_old, "{phase:?}, certificate {i}");
        }
        let file = fs::read_to_string(authority.bundle_file()).unwrap();
        assert_eq!(file, trust.pem(), "what other programs read is the same");
    }
    assert_ne!(authority.trust().signer(), first_root);
    assert!(!directory.path().join("ca/root.key").exists(), "nobody needs the old key");
    assert!(directory.path().join("ca/root-2.key").exists());
}

#[test]
fn a_root_that_signs_nothing_yet_may_be_let_go_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let authority = embedded(&directory);
    let now = SystemTime::now();
    let before = authority.trust();
    assert!(authority.abandon(now).is_err(), "there is none");
    authority.go_on(false, now).unwrap();
    assert_eq!(authority.abandon(now).unwrap().phase, Phase::Steady);
    assert_eq!(*authority.trust(), *before);
    assert!(!directory.path().join("ca/root-2.key").exists());
    for _ in [Phase::Distribute, Phase::Issue] {
        authority.go_on(false, now).unwrap();
    }
    let error = authority.abandon(now).unwrap_err().to_string();
    assert!(error.contains("signs already"), "{error}");
}

#[test]
fn a_root_of_the_users_own_is_not_replaced_by_us() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(embedded(&theirs));
    let file = |name: &str| theirs.path().join("ca").join(name);
    let (root, key) = (file("root.pem"), file("root.key"));
    let authority =
        Authority::of_files(TrustDomain::default(), ours.path(), &root, &key, None).unwrap();
    let error = authority.go_on(false, SystemTime::now()).unwrap_err().to_string();
    assert!(error.contains("--ca-bundle"), "{error}");
}

/// A step that could not be told is not taken: nobody would believe what the next one signs.
#[test]
fn a_disk_that_fails_keeps_the_step_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let authority = embedded(&directory);
    let now = SystemTime::now();
    let before = authority.trust();
    let file = authority.bundle_file();
    fs::remove_file(&file).unwrap();
    // Nothing can be put in the place of a directory.
    fs::create_dir(&file).unwrap();
    let error = authority.go_on(false, now).unwrap_err().to_string();
    assert!(error.contains("bundle.pem"), "{error}");
    assert_eq!(authority.roots().unwrap().phase, Phase::Steady);
    assert_eq!(*authority.trust(), *before);
    fs::remove_dir(&file).unwrap();
    assert_eq!(authority.go_on(false, now).unwrap().phase, Phase::Distribute);
    assert_eq!(authority.trust().bundle().len(), 2);
}
