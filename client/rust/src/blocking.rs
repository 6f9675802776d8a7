//! The client for threads without tokio.

use std::fmt;
use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Runtime};

use crate::error::{Code, Error, Result};
use crate::health::health_check_response::ServingStatus;
use crate::v1::{Model, ModelSummary};
use crate::{Answer, Classify, Inputs, Options};

/// A client whose calls return when they are answered. Threads may share it, and one of those that
/// wait does the work of all; a thread of its own there is none.
///
/// No call may be made from within tokio's runtimes, where it would panic.
pub struct Client {
    client: crate::Client,
    runtime: Runtime,
}

impl Client {
    /// A client of the servers at `address`; see [`Client::connect`](crate::Client::connect).
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT with the reason "BAD_ADDRESS" or "BAD_CREDENTIALS"; INTERNAL where the
    /// system has no more files to open.
    pub fn connect(address: &str, options: Options) -> Result<Self> {
        let cannot = |error: io::Error| Error::new(Code::Internal, error.to_string());
        let runtime = Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        Ok(Self { client: crate::Client::connect(address, options)?, runtime })
    }

    /// Classifies one row or a batch of rows, with the options that `with` sets:
    ///
    /// ```no_run
    /// # fn ask() -> sigmax::Result<()> {
    /// # let client = sigmax::blocking::Client::connect("localhost", sigmax::Options::default())?;
    /// let answer = client.classify("animal", [22f32, 100.0, 38.0], |call| call.top_k(3))?;
    /// println!("{:?}", answer.rows[0].label());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Client::classify`](crate::Client::classify).
    pub fn classify(
        &self,
        model: impl Into<String>,
        inputs: impl Into<Inputs>,
        with: impl FnOnce(Classify) -> Classify,
    ) -> Result<Answer> {
        self.wait(with(self.client.classify(model, inputs)).send())
    }

    /// Lists all models of the server that the client may ask.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub fn models(&self) -> Result<Vec<ModelSummary>> {
        self.wait(self.client.models())
    }

    /// Describes a version of a model; where `version` is empty, the newest that is ready.
    ///
    /// # Errors
    ///
    /// NOT_FOUND where the server has no such model or version.
    pub fn model(&self, name: impl Into<String>, version: impl Into<String>) -> Result<Model> {
        self.wait(self.client.model(name, version))
    }

    /// The health of a service or a model; where the name is empty, of the server.
    ///
    /// # Errors
    ///
    /// NOT_FOUND where the server does not know the name.
    pub fn health(&self, service: impl Into<String>) -> Result<ServingStatus> {
        self.wait(self.client.health(service))
    }

    /// Runs a call to its end. Between calls nobody reads what the server sends, such as that it
    /// closes the connection: what has come since is read before the call is sent.
    fn wait<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::task::yield_now().await;
            call.await
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(to)
    }
}
