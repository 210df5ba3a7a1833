//! `segue token`

use std::time::Duration;

use segue_proto::admin::v1 as api;
use serde_json::{Value, json};

use super::rows;
use crate::error::CliError;
use crate::format::Format;
use crate::session::Session;
use crate::{DONE, duration};

#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Make a token that instances of one service join the mesh with. It is shown once
    Create(Create),
    /// Show the tokens that may be joined with, and those that ended within a day
    List(List),
    /// Let nobody join with a token from now on
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
pub struct Create {
    /// The service, as NAME or NAMESPACE/NAME
    #[arg(long, value_name = "SERVICE")]
    pub service: String,
    /// How long the token counts, at most 720h
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::parse)]
    pub ttl: Duration,
    /// How many sidecars may get their first certificate with it
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub uses: u32,
    /// How it is printed; a table is the token alone
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// How they are printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// The token's id, as `segue token list` shows it
    pub id: String,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    match args {
        Args::Create(args) => create(args, session).await,
        Args::List(args) => list(&args, session).await,
        Args::Revoke(args) => revoke(args, session).await,
    }
}

async fn create(args: Create, session: &mut Session<'_>) -> Result<u8, CliError> {
    let request = api::CreateTokenRequest {
        service: args.service,
        ttl: prost_types::Duration::try_from(args.ttl).ok(),
        uses: args.uses,
    };
    let made = session.tokens().await?.create_token(request).await?.into_inner();
    let about = made.about.unwrap_or_default();
    if matches!(args.output, Format::Json | Format::Yaml) {
        let mut told = value(&about);
        told["token"] = json!(made.token);
        session.output.value(args.output, &told)?;
    } else {
        // For `$(segue token create …)`; what else there is to know goes where people look.
        session.output.line(&made.token)?;
        let (id, service, uses) = (&about.id, &about.service, about.uses);
        let uses = super::counted(u64::from(uses), "use");
        let until = rows::local(about.expires_at.as_ref());
        session.output.note(&format!("token {id} of {service}: {uses}, until {until}"));
    }
    Ok(DONE)
}

async fn list(args: &List, session: &mut Session<'_>) -> Result<u8, CliError> {
    let listed = session.tokens().await?.list_tokens(api::ListTokensRequest {}).await?;
    let tokens = listed.into_inner().tokens;
    if matches!(args.output, Format::Json | Format::Yaml) {
        let all: Vec<Value> = tokens.iter().map(value).collect();
        session.output.value(args.output, &json!(all))?;
    } else if tokens.is_empty() {
        session.output.note("There are none: make one with `segue token create --service NAME`.");
    } else {
        let header = ["ID", "SERVICE", "USES LEFT", "UNTIL", "MADE BY"];
        session.output.table(Some(&header), tokens.iter().map(row).collect())?;
    }
    Ok(DONE)
}

fn row(token: &api::Token) -> Vec<String> {
    vec![
        token.id.clone(),
        token.service.clone(),
        format!("{} of {}", token.uses_left, token.uses),
        rows::local(token.expires_at.as_ref()),
        rows::none(token.created_by.clone()),
    ]
}

async fn revoke(args: Revoke, session: &mut Session<'_>) -> Result<u8, CliError> {
    let id = args.id;
    session.tokens().await?.revoke_token(api::RevokeTokenRequest { id: id.clone() }).await?;
    session.output.line(&format!("token {id} revoked"))?;
    Ok(DONE)
}

fn value(token: &api::Token) -> Value {
    json!({
        "id": token.id,
        "service": token.service,
        "expiresAt": rows::rfc3339(token.expires_at.as_ref()),
        "uses": token.uses,
        "usesLeft": token.uses_left,
        "createdBy": token.created_by,
    })
}
