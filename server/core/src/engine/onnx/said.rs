//! ONNX Runtime's messages, without the places in its sources that they come from, and with the cure
//! where ONNX Runtime names none.

/// The message on one line, without the paths and signatures of ONNX Runtime's sources. "Exception
/// during initialization: /onnxruntime_src/... CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED ;
/// GPU=0 ; hostname=... ; file=... ; line=250 ; expr=cudnnCreate(&handle);" keeps its beginning,
/// the failure, and the function that was called.
pub(super) fn brief(message: &str) -> String {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match of_cuda(&message).or_else(|| of_locale(&message)) {
        Some(told) => told,
        None => without_places(&message),
    }
}

/// What to do about "... Failed to construct locale with name:en_US.UTF-8:locale::facet::..., ...". The
/// name is the model's, so it is part of a command only where a shell takes it as one word.
fn of_locale(message: &str) -> Option<String> {
    let (_, after) = message.split_once("Failed to construct locale with name:")?;
    let (name, _) = after.split_once(":locale::facet::")?;
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "_.@-".contains(character);
    let is_word = name.chars().all(is_plain) && !name.starts_with('-');
    let language = name.split('.').next().filter(|_| is_word);
    let command = language.map_or(String::new(), |language| {
        format!(" (on Debian: apt-get install locales && localedef -i {language} -f UTF-8 {name})")
    });
    Some(format!(
        "the operator StringNormalizer needs the locale {name}, which is not installed: install \
         it{command}, and start the server again"
    ))
}

fn of_cuda(message: &str) -> Option<String> {
    let (before, after) = message.split_once(" failure ")?;
    let (problem, place) = after.split_once(" ; GPU=")?;
    let (_, call) = place.rsplit_once("expr=")?;
    let library = before.rsplit(' ').next()?;
    let context = before.split("/onnxruntime_src").next()?.trim_end_matches(library);
    let call = call.trim_end_matches([';', ' ']);
    Some(format!("{context}{library} failure {problem}, from {call}"))
}

fn without_places(message: &str) -> String {
    let mut told: Vec<&str> = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = match word {
            // "[ONNXRuntimeError] : 1 : FAIL : " stands in front of the message of an inner error.
            "[ONNXRuntimeError]" => after.splitn(6, ' ').nth(5).unwrap_or(""),
            // A place is "model.cc:256 Function ", or the file's whole path and a whole signature.
            _ if is_place(word) && word.contains('/') => after_signature(after),
            _ if is_place(word) => after.split_once(' ').map_or("", |(_, message)| message),
            _ => {
                told.push(word);
                after
            }
        };
    }
    told.join(" ")
}

/// Whether a word names a line of a C++ file, such as `graph.cc:1471`.
fn is_place(word: &str) -> bool {
    let Some((file, line)) = word.rsplit_once(':') else { return false };
    let of_source = [".cc", ".cpp", ".cu", ".h", ".hpp", ".cuh", ".inl"];
    of_source.iter().any(|ending| file.ends_with(ending))
        && !line.is_empty()
        && line.bytes().all(|byte| byte.is_ascii_digit())
}

/// The text behind a function's signature as a C++ compiler writes it: the result, the name, the
/// parameters, and behind them `const`, a lambda in the function, or the types of its templates.
fn after_signature(text: &str) -> &str {
    // A signature with spaces has parameters; without parameters it is one word.
    let word = text.split_once(' ').map_or("", |(_, message)| message);
    let Some(open) = parameters(text) else { return word };
    let Some(mut end) = closed(text, open) else { return word };
    loop {
        let rest = &text[end..];
        let tail = rest.trim_start();
        let skipped = rest.len() - tail.len();
        let specifier = ["const", "mutable", "noexcept", "&&", "&"]
            .into_iter()
            .find(|each| tail.strip_prefix(each).is_some_and(|after| !after.starts_with(is_name)));
        if let Some(specifier) = specifier {
            end += skipped + specifier.len();
        } else if tail.starts_with("[with ") {
            let Some(close) = closed(text, end + skipped) else { return word };
            end = close;
        } else if rest.starts_with("::") {
            // The signature goes on with a lambda, or with a function of a class within the
            // function.
            let next = rest.find("<lambda(").map(|at| end + at);
            let next = next.filter(|at| at - end <= 2).or_else(|| Some(end + parameters(rest)?));
            let Some(close) = next.and_then(|at| closed(text, at)) else { return word };
            end = close;
        } else {
            return tail;
        }
    }
}

/// Whether a character may be in a name.
fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The place where a function's parameters begin: the first parenthesis in no template's brackets.
fn parameters(text: &str) -> Option<usize> {
    let mut depth = 0i32;
    for (at, character) in text.char_indices() {
        match character {
            '<' => depth += 1,
            '>' => depth -= 1,
            '(' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// The place behind the bracket that closes the one at `open`.
fn closed(text: &str, open: usize) -> Option<usize> {
    let mut depth = 0i32;
    for (at, character) in text[open..].char_indices() {
        match character {
            '(' | '[' | '<' => depth += 1,
            ')' | ']' | '>' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(open + at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::brief;

    #[test]
    fn places_in_sources_are_left_out() {
        for (message, told) in [
            (
                "/onnxruntime_src/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model(\
                 onnx::ModelProto&&, const onnxruntime::PathString&, const \
                 onnxruntime::logging::Logger&) Unsupported model IR version: 99, max supported \
                 IR version: 14\n",
                "Unsupported model IR version: 99, max supported IR version: 14",
            ),
            (
                "Exception during initialization: /onnxruntime_src/core/optimizer/initializer.cc:51 \
                 onnxruntime::Initializer::Initializer(const onnx::TensorProto&, const \
                 std::filesystem::__cxx11::path&) [ONNXRuntimeError] : 1 : FAIL : \
                 tensorprotoutils.cc:1730 Validate Initializer 'weight': raw_data size (3 bytes) \
                 does not match\n",
                "Exception during initialization: Initializer 'weight': raw_data size (3 bytes) \
                 does not match",
            ),
            (
                "/a/b.h:91 std::function<void(int)> a::b<int>(const std::map<int, std::string>&, \
                 std::function<void(int)>)::<lambda(const std::string&, int)> const [with T = int; \
                 U = float[3]] x == y was false. It cannot be (5) or so",
                "x == y was false. It cannot be (5) or so",
            ),
            (
                "Status Message: element_wise_ops.cc:703 Compute Integer division by zero",
                "Status Message: Integer division by zero",
            ),
            ("/a/b.cc:12 main It is off.", "It is off."),
            (
                "This is an invalid model. In Node, (\"\", Conv) : (\"x\": tensor(float),)\n\n==> odd",
                "This is an invalid model. In Node, (\"\", Conv) : (\"x\": tensor(float),) ==> odd",
            ),
        ] {
            assert_eq!(brief(message), told);
        }
    }

    #[test]
    fn a_missing_locale_is_named_with_its_cure() {
        for (name, command) in [
            ("en_US", " (on Debian: apt-get install locales && localedef -i en_US -f UTF-8 en_US)"),
            (
                "de_DE.UTF-8",
                " (on Debian: apt-get install locales && localedef -i de_DE -f UTF-8 de_DE.UTF-8)",
            ),
            ("$(reboot)", ""),
            ("-f", ""),
        ] {
            let message = format!(
                "Exception during initialization: /a/string_normalizer.cc:235 a::Locale(const \
                 std::string&)::<lambda()> Failed to construct locale with name:{name}:\
                 locale::facet::_S_create_c_locale name not valid:Please, install necessary \
                 language-pack-XX and configure locales\n"
            );
            let told = format!(
                "the operator StringNormalizer needs the locale {name}, which is not installed: \
                 install it{command}, and start the server again"
            );
            assert_eq!(brief(&message), told);
        }
    }
}
