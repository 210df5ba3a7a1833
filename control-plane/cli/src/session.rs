//! One run of the program: the server it speaks to and the streams it prints on.

use segue_proto::admin::v1 as api;

use crate::args::Connection;
use crate::client::{
    self, BackupClient, Calls, CertificateClient, ConfigClient, Connected, StatusClient,
    TokenClient,
};
use crate::error::CliError;
use crate::output::Output;

pub struct Session<'a> {
    connection: Connection,
    channel: Option<Connected>,
    pub output: Output<'a>,
}

impl<'a> Session<'a> {
    pub fn new(connection: Connection, output: Output<'a>) -> Self {
        Self { connection, channel: None, output }
    }

    pub async fn config(&mut self) -> Result<ConfigClient, CliError> {
        Ok(client::config(self.channel().await?))
    }

    pub async fn status(&mut self) -> Result<StatusClient, CliError> {
        Ok(client::status(self.channel().await?))
    }

    pub async fn tokens(&mut self) -> Result<TokenClient, CliError> {
        Ok(TokenClient::new(self.channel().await?))
    }

    pub async fn certificates(&mut self) -> Result<CertificateClient, CliError> {
        Ok(CertificateClient::new(self.channel().await?))
    }

    pub async fn backups(&mut self) -> Result<BackupClient, CliError> {
        Ok(client::backups(client::connect(&self.connection, Calls::Long).await?))
    }

    /// The control plane's address as it was named.
    pub fn server(&self) -> &str {
        &self.connection.server
    }

    /// Connects at the first need: `schema` and wrong input need no server.
    async fn channel(&mut self) -> Result<Connected, CliError> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let channel = client::connect(&self.connection, Calls::Short).await?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    /// All resources that match, over all pages.
    pub async fn list(
        &mut self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<(u64, Vec<api::Entry>), CliError> {
        let mut client = self.config().await?;
        let mut request = api::ListRequest {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..api::ListRequest::default()
        };
        let mut entries = Vec::new();
        loop {
            let page = client.list(request.clone()).await?.into_inner();
            entries.extend(page.resources);
            if page.next_page_token.is_empty() {
                return Ok((page.revision, entries));
            }
            request.page_token = page.next_page_token;
        }
    }

    /// All sidecars of a service (empty: of all), over all pages.
    pub async fn sidecars(&mut self, service: &str) -> Result<api::ListSidecarsResponse, CliError> {
        let mut client = self.status().await?;
        let mut request = api::ListSidecarsRequest {
            service: service.to_owned(),
            ..api::ListSidecarsRequest::default()
        };
        let mut sidecars = Vec::new();
        loop {
            let mut page = client.list_sidecars(request.clone()).await?.into_inner();
            sidecars.append(&mut page.sidecars);
            if page.next_page_token.is_empty() {
                return Ok(api::ListSidecarsResponse { sidecars, ..page });
            }
            request.page_token = page.next_page_token;
        }
    }
}

/// Who commits, as far as this machine says.
pub fn author() -> String {
    ["SEGUE_AUTHOR", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_default()
}
