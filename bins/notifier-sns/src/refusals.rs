use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_sdk_sns::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, http::HttpResponse, interceptors::BeforeTransmitInterceptorContextRef,
    },
    error::{BoxError, ProvideErrorMetadata, SdkError},
};
use domain::{Outcome, provider::sns_answer};
use http_client::parse_retry_after;
use hyper_util::client::legacy;
use notifier::Answer;

/// Notes that a request is about to go out. Before that it needs credentials, which may not come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transmission(Arc<AtomicBool>);

impl Transmission {
    pub(crate) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Intercept for Transmission {
    fn name(&self) -> &'static str {
        "Transmission"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// What it means that a message was not published, or that nobody can tell whether it was.
pub(crate) fn answer<E>(error: &SdkError<E, HttpResponse>, transmission: &Transmission) -> Answer
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    if let Some(response) = error.raw_response() {
        return sns_answer(response.status().as_u16(), code, retry_after(response));
    }
    if !transmission.has_begun() {
        return Answer::unreachable(format!("nothing could be sent to SNS: {}", cause(error)));
    }
    match error {
        SdkError::DispatchFailure(failure) if failure.as_connector_error().is_some_and(|e| never_connected(e)) => {
            Answer::unreachable(format!("could not connect to SNS: {}", cause(error)))
        }
        _ => Answer::new(Outcome::Unknown, "the connection broke before SNS's answer came"),
    }
}

/// Without a connection nothing was sent.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| error.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect))
}

fn retry_after(response: &HttpResponse) -> Option<Duration> {
    parse_retry_after(response.headers().get("retry-after")?, response.headers().get("date"))
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The cause of all the others, such as "Connection refused".
pub(crate) fn cause(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}
