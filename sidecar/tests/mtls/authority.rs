//! An authority that signs whatever a test asks for.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, SignatureScheme};
use segue_shared::spiffe::{SpiffeId, TrustDomain};
use segue_shared::tls::TrustBundle;
use segue_sidecar::tls::{Identity, Mesh};
use segue_sidecar_core::snapshot::UpstreamTls;

/// What a test makes of a certificate.
pub type Change<'a> = &'a dyn Fn(&mut CertificateParams);

pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Leaf {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

pub fn domain() -> TrustDomain {
    "mesh.test".parse().unwrap()
}

pub fn id(service: &str) -> SpiffeId {
    format!("spiffe://mesh.test/ns/default/sa/{service}").parse().unwrap()
}

/// mTLS towards a service.
pub fn towards(service: &str) -> UpstreamTls {
    UpstreamTls { peers: [id(service)].into(), server_name: Some("chat.default".into()) }
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { root }
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    /// A good certificate of a service, but for what the test changes.
    pub fn leaf(&self, service: &str, change: Change<'_>) -> Leaf {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            vec![SanType::URI(id(service).to_string().as_str().try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.not_after = date_time_ymd(2090, 1, 1);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let chain = vec![params.signed_by(&key, &self.root).unwrap().der().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Leaf { chain, key }
    }

    pub fn identity(&self, service: &str) -> Identity {
        self.identity_with(service, &|_| {})
    }

    pub fn identity_with(&self, service: &str, change: Change<'_>) -> Identity {
        let leaf = self.leaf(service, change);
        let bundle = TrustBundle::new(domain(), vec![self.der()]).unwrap();
        Identity::new(leaf.chain, &leaf.key, bundle).unwrap()
    }

    /// A sidecar that is somebody.
    pub fn member(&self, service: &str) -> Mesh {
        let mesh = Mesh::default();
        mesh.become_known_as(self.identity(service));
        mesh
    }
}

/// Ends so long from now.
pub fn ends_in(params: &mut CertificateParams, left: Duration) {
    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + left;
    params.not_after = date_time_ymd(1970, 1, 1) + until;
}

/// A client that shows this, if anything, and believes everybody.
pub fn careless(leaf: Option<Leaf>, alpn: &str) -> ClientConfig {
    #[derive(Debug)]
    struct Believer;

    impl rustls::client::danger::ServerCertVerifier for Believer {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &rustls::pki_types::ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
        }
    }

    let builder = ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .dangerous()
    .with_custom_certificate_verifier(Arc::new(Believer));
    let mut config = match leaf {
        Some(leaf) => builder.with_client_auth_cert(leaf.chain, leaf.key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = if alpn.is_empty() { vec![] } else { vec![alpn.into()] };
    config
}
