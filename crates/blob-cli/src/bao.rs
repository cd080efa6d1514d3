//! `blob bao`: verified slices in files.

mod decode;
mod encode;
mod outboard;
mod stream;

pub(crate) use encode::chunks;
pub(crate) use stream::Blocking;

use crate::{
    args::BaoVerb,
    exit::{Exit, Failure},
    run::Context,
};

/// Does what the verb says.
pub(crate) async fn run(context: &Context, verb: BaoVerb) -> Result<Exit, Failure> {
    match verb {
        BaoVerb::Encode { target, output } => encode::run(context, target, output).await,
        BaoVerb::Decode(args) => decode::run(context, args).await,
        BaoVerb::Outboard { name, output } => outboard::run(context, name, output).await,
    }
}
