//! Runs the repository's vectors: asks the server at SIGMAX_ADDRESS each request in the files of
//! SIGMAX_VECTORS, and prints for each a line of JSON that says whether the answer is the right one.

#![allow(clippy::print_stdout, reason = "that is how it reports")]

use std::collections::BTreeSet;
use std::env::var;
use std::error::Error;
use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sigmax::{Answer, Client, DataType, Options, ScoredClass, Tensor, Tls, Token};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut options = Options::default();
    if let Ok(authority) = var("SIGMAX_CLIENT_TLS_CA") {
        options = options.tls(Tls::authority(authority));
    }
    if let Ok(token) = var("SIGMAX_CLIENT_TOKEN") {
        options = options.token(Token::text(token)?);
    }
    let client = Client::connect(&var("SIGMAX_ADDRESS")?, options)?;
    for entry in fs::read_dir(var("SIGMAX_VECTORS")?)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let file: Value = serde_json::from_slice(&fs::read(path)?)?;
        for case in file["cases"].as_array().ok_or("expected cases")? {
            let found = ask(&client, &case["request"]).await?;
            let line = match is_right(case, &found) {
                true => json!({"name": case["name"], "ok": true}),
                false => json!({"name": case["name"], "ok": false, "found": found.to_string()}),
            };
            println!("{line}");
        }
    }
    Ok(())
}

/// What the server answers, in the form that the vectors have it.
async fn ask(client: &Client, request: &Value) -> Result<Value> {
    let text = |key: &str| request[key].as_str().unwrap_or_default();
    let inputs = request["inputs"].as_array().ok_or("expected inputs")?;
    let inputs = inputs.iter().map(tensor).collect::<Result<Vec<_>>>()?;
    let mut call = client
        .classify(text("model"), inputs)
        .version(text("version"))
        .head(text("head"))
        .top_k(request["top_k"].as_u64().unwrap_or(0).try_into()?)
        .return_probabilities(request["return_probabilities"] == true);
    if let Some(threshold) = request["threshold"].as_f64() {
        call = call.threshold(threshold as f32);
    }
    Ok(match call.await {
        Ok(answer) => json!({ "answer": written(&answer)? }),
        Err(error) => {
            let fields: Vec<_> = error.fields().keys().collect();
            let code = error.code().name();
            json!({"error": {"code": code, "reason": error.reason(), "fields": fields}})
        }
    })
}

fn tensor(input: &Value) -> Result<Tensor> {
    let text = |key: &str| input[key].as_str().ok_or("expected a text");
    let dtype = match text("dtype")? {
        "" => DataType::Unspecified,
        name => DataType::from_str_name(&format!("DATA_TYPE_{name}")).ok_or("a wrong dtype")?,
    };
    let shape: Vec<i64> = serde_json::from_value(input["shape"].clone())?;
    Ok(Tensor::raw(dtype, shape, STANDARD.decode(text("data")?)?).named(text("name")?))
}

fn written(answer: &Answer) -> Result<Value> {
    let class = |class: &ScoredClass| json!({"index": class.index, "label": class.label, "bits": class.probability.to_bits()});
    let classes = |list: &[ScoredClass]| list.iter().map(class).collect::<Vec<_>>();
    let row = |row: &sigmax::Classification| json!({"classes": classes(&row.classes), "decision": classes(&row.decision)});
    let probabilities = answer.probabilities.as_ref().map(|tensor| {
        let dtype = tensor.dtype().as_str_name().trim_start_matches("DATA_TYPE_");
        json!({"dtype": dtype, "shape": tensor.shape, "data": STANDARD.encode(tensor.bytes())})
    });
    Ok(json!({
        "model": answer.model,
        "version": answer.version,
        "head": answer.head,
        "rows": answer.rows.iter().map(row).collect::<Vec<_>>(),
        "probabilities": probabilities,
    }))
}

/// Whether this is the case's answer or error; the fields of an error have no order.
fn is_right(case: &Value, found: &Value) -> bool {
    let fields = |error: &Value| -> BTreeSet<String> {
        serde_json::from_value(error["fields"].clone()).unwrap_or_default()
    };
    match (&case["error"], &found["error"]) {
        (Value::Null, Value::Null) => case["answer"] == found["answer"],
        (expected, found) => {
            expected["code"] == found["code"]
                && expected["reason"] == found["reason"]
                && fields(expected) == fields(found)
        }
    }
}
