//! Who asks: a token, or a certificate.

use std::fs;
use std::path::Path;

use segue_shared::secret::Secret;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::args::Connection;
use crate::error::CliError;

const TOKEN: &str = "SEGUE_TOKEN";

/// The token of the file, else the one of the environment, else none.
pub fn token(file: Option<&Path>) -> Result<Option<Secret>, CliError> {
    if let Some(file) = file {
        let token = Secret::read(file);
        return token.map(Some).map_err(|error| CliError::Usage(format!("--token-file {error}")));
    }
    match std::env::var(TOKEN) {
        Ok(token) if !token.is_empty() => Secret::new(&token)
            .map(Some)
            .map_err(|error| CliError::Usage(format!("{TOKEN} holds no token: {error}"))),
        _ => Ok(None),
    }
}

/// The value of `authorization`, which is never printed.
pub fn bearer(token: &Secret) -> Result<AsciiMetadataValue, CliError> {
    let value = format!("Bearer {}", token.expose()).parse::<AsciiMetadataValue>();
    let mut value =
        value.map_err(|_| CliError::Usage("the token does not fit a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What the connection trusts and shows.
pub fn tls(connection: &Connection) -> Result<ClientTlsConfig, CliError> {
    let read = |file: &Path| {
        fs::read(file).map_err(|source| CliError::File { file: file.to_owned(), source })
    };
    let tls = ClientTlsConfig::new();
    let tls = match &connection.ca_file {
        Some(file) => tls.ca_certificate(Certificate::from_pem(read(file)?)),
        None => tls.with_native_roots(),
    };
    match (&connection.client_cert, &connection.client_key) {
        (None, None) => Ok(tls),
        (Some(certificate), Some(key)) => {
            Ok(tls.identity(Identity::from_pem(read(certificate)?, read(key)?)))
        }
        _ => Err(CliError::Usage("--client-cert and --client-key go together".to_owned())),
    }
}

/// Files of certificates say that the connection should be encrypted; then it must be.
pub fn refuse_tls_files(connection: &Connection) -> Result<(), CliError> {
    let given = [&connection.ca_file, &connection.client_cert, &connection.client_key];
    if given.iter().all(|file| file.is_none()) {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "{} is plain text, so certificates are of no use: write --server https://HOST:PORT",
        connection.server
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_header_is_not_printed() {
        let token = Secret::new("segue-op-0123456789").ok().unwrap();
        let printed = format!("{:?}", bearer(&token).unwrap());
        assert!(!printed.contains("0123456789"), "{printed}");
    }
}
