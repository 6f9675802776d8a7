//! The client and its calls.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use prost::Message;

use crate::error::{Code, Error, Result};
use crate::health::health_check_response::ServingStatus;
use crate::health::{HealthCheckRequest, HealthCheckResponse};
use crate::tensor::Inputs;
use crate::transport::{self, Channel, Method, Options, frame};
use crate::v1::{
    Classification, ClassifyRequest, ClassifyResponse, ClassifyStreamRequest,
    ClassifyStreamResponse, GetModelRequest, GetModelResponse, ListModelsRequest,
    ListModelsResponse, Model, ModelSummary, ScoredClass, Tensor, Timings,
};

/// A client of one server, or of several that are asked in turn. Clones share its connections.
///
/// A client is used inside of a tokio runtime with its I/O and its time; a thread without one has
/// [`blocking::Client`](crate::blocking::Client). The connection is opened by the first call. All
/// calls fail with the [`Error`] of their gRPC status, and have the time limit and the retries of
/// the [`Options`].
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// A client of the servers at `address`: "HOST:PORT", "unix:PATH", or several with commas
    /// between them. The port is 8001 where none is given.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT with the reason "BAD_ADDRESS", or "BAD_CREDENTIALS" where a file of TLS
    /// cannot be used or the token would be sent in plaintext to another machine.
    pub fn connect(address: &str, options: Options) -> Result<Self> {
        Ok(Self { channel: Channel::connect(address, options)? })
    }

    /// The channel of the client, for calls of one's own.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Classifies one row or a batch of rows. The call is sent when it is awaited:
    ///
    /// ```no_run
    /// # async fn ask() -> sigmax::Result<()> {
    /// # let client = sigmax::Client::connect("localhost", sigmax::Options::default())?;
    /// let answer = client.classify("animal", [22f32, 100.0, 38.0]).top_k(3).await?;
    /// println!("{:?} of {:?}", answer.rows[0].label(), answer.rows[0].classes);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT where the inputs do not fit the model, NOT_FOUND where the server has no
    /// such model or version, FAILED_PRECONDITION where the model does not classify,
    /// RESOURCE_EXHAUSTED and UNAVAILABLE after all retries, DEADLINE_EXCEEDED.
    pub fn classify(&self, model: impl Into<String>, inputs: impl Into<Inputs>) -> Classify {
        let request = ClassifyRequest {
            model_name: model.into(),
            inputs: inputs.into().0,
            ..ClassifyRequest::default()
        };
        Classify { client: self.clone(), request, timeout: None }
    }

    /// Begins a stream on which many requests are classified at once; their answers may overtake each
    /// other. The stream has no time limit, and is not tried again.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE where no server can be reached.
    pub async fn classify_stream(&self) -> Result<(StreamRequests, StreamAnswers)> {
        let method = Method::from_static("/sigmax.v1.ClassifierService/ClassifyStream");
        let (requests, answers) = self.channel.stream(&method, None).await?;
        Ok((StreamRequests(requests), StreamAnswers(answers)))
    }

    /// Lists all models of the server that the client may ask.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn models(&self) -> Result<Vec<ModelSummary>> {
        let path = "/sigmax.v1.ClassifierService/ListModels";
        let answer: ListModelsResponse = self.unary(path, &ListModelsRequest {}, None).await?;
        Ok(answer.models)
    }

    /// Describes a version of a model; where `version` is empty, the newest that is ready.
    ///
    /// # Errors
    ///
    /// NOT_FOUND where the server has no such model or version.
    pub async fn model(
        &self,
        name: impl Into<String>,
        version: impl Into<String>,
    ) -> Result<Model> {
        let request = GetModelRequest { model_name: name.into(), model_version: version.into() };
        let path = "/sigmax.v1.ClassifierService/GetModel";
        let answer: GetModelResponse = self.unary(path, &request, None).await?;
        answer.model.ok_or_else(|| Error::new(Code::Internal, "the server's answer has no model"))
    }

    /// The health of a service or a model; where the name is empty, of the server.
    ///
    /// # Errors
    ///
    /// NOT_FOUND where the server does not know the name.
    pub async fn health(&self, service: impl Into<String>) -> Result<ServingStatus> {
        let request = HealthCheckRequest { service: service.into() };
        let path = "/grpc.health.v1.Health/Check";
        let answer: HealthCheckResponse = self.unary(path, &request, None).await?;
        Ok(answer.status())
    }

    async fn unary<Answer: Message + Default>(
        &self,
        path: &'static str,
        request: &impl Message,
        timeout: Option<Duration>,
    ) -> Result<Answer> {
        let method = Method::from_static(path);
        decoded(self.channel.unary(&method, frame(request), timeout).await?)
    }
}

fn decoded<Answer: Message + Default>(message: bytes::Bytes) -> Result<Answer> {
    let malformed = |error| Error::new(Code::Internal, format!("the server's answer: {error}"));
    Answer::decode(message).map_err(malformed)
}

/// A request to classify, which is sent when it is awaited.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Classify {
    client: Client,
    request: ClassifyRequest,
    timeout: Option<Duration>,
}

impl Classify {
    /// Asks this version of the model, a decimal number; by default the newest that is ready.
    pub fn version(mut self, version: impl ToString) -> Self {
        self.request.model_version = version.to_string();
        self
    }

    /// Asks this head of the model; by default the first.
    pub fn head(mut self, head: impl Into<String>) -> Self {
        self.request.head = head.into();
        self
    }

    /// Most classes to return for each row, the most probable first; by default all.
    pub fn top_k(mut self, classes: u32) -> Self {
        self.request.top_k = classes;
        self
    }

    /// Threshold of every class in [0, 1], in place of the model's own. Multi-class models take none.
    pub fn threshold(mut self, threshold: f32) -> Self {
        self.request.threshold = Some(threshold);
        self
    }

    /// Returns the tensor of all probabilities, too.
    pub fn return_probabilities(mut self, whether: bool) -> Self {
        self.request.return_probabilities = whether;
        self
    }

    /// Time limit of this call, all its retries together; by default that of the options.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends the request; what awaiting it does.
    ///
    /// # Errors
    ///
    /// See [`Client::classify`].
    pub async fn send(self) -> Result<Answer> {
        let path = "/sigmax.v1.ClassifierService/Classify";
        let answer = self.client.unary::<ClassifyResponse>(path, &self.request, self.timeout);
        answer.await.map(Answer::from)
    }
}

impl IntoFuture for Classify {
    type Output = Result<Answer>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// The answer to a request to classify.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Name of the model that answered.
    pub model: String,
    /// Version that answered, as a decimal number.
    pub version: String,
    /// Name of the head that classified; empty where the model's one head has no name.
    pub head: String,
    /// Answers to the rows, in the order of the request.
    pub rows: Vec<Classification>,
    /// Output of the head, unchanged: of the shape [rows, classes], or one probability for each row
    /// of a binary head. None unless it was asked for.
    pub probabilities: Option<Tensor>,
    /// Time that the request spent in the server.
    pub timings: Timings,
}

impl From<ClassifyResponse> for Answer {
    fn from(response: ClassifyResponse) -> Self {
        Self {
            model: response.model_name,
            version: response.model_version,
            head: response.head,
            rows: response.rows,
            probabilities: response.probabilities,
            timings: response.timings.unwrap_or_default(),
        }
    }
}

impl Classification {
    /// Name of the class decided on; empty where the model declares no labels. None where the
    /// decision is not for one class, as it may be of a multi-label head.
    pub fn label(&self) -> Option<&str> {
        self.decided().map(|class| class.label.as_str())
    }

    /// Index of the class decided on; none as for [`label`](Self::label).
    pub fn index(&self) -> Option<u32> {
        self.decided().map(|class| class.index)
    }

    /// Probability in [0, 1] of the class decided on; none as for [`label`](Self::label).
    pub fn probability(&self) -> Option<f32> {
        self.decided().map(|class| class.probability)
    }

    fn decided(&self) -> Option<&ScoredClass> {
        match &self.decision[..] {
            [class] => Some(class),
            _ => None,
        }
    }
}

/// The requests of a stream.
#[derive(Debug)]
pub struct StreamRequests(transport::Requests);

impl StreamRequests {
    /// Sends one request, as soon as the server takes it. Its answer has the same id.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED where the message is too large; else the stream is over, and its answers
    /// say why.
    pub async fn send(&mut self, request: &ClassifyStreamRequest) -> Result<()> {
        self.0.send(request).await
    }

    /// Says that no more requests follow. Without it, dropping this breaks the stream off.
    pub fn finish(self) {
        self.0.finish();
    }
}

/// The answers of a stream.
#[derive(Debug)]
pub struct StreamAnswers(transport::Answers);

impl StreamAnswers {
    /// The next answer, or the error of one request; none after the last.
    ///
    /// # Errors
    ///
    /// The status of the stream, which is over then.
    pub async fn next(&mut self) -> Result<Option<ClassifyStreamResponse>> {
        self.0.next().await?.map(decoded).transpose()
    }
}
