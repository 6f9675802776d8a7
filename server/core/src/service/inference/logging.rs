//! LogSettings: tells what is logged, and changes it where clients may.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::log::Levels;
use crate::proto::inference::log_settings_request::SettingValue;
use crate::proto::inference::log_settings_request::setting_value::ParameterChoice;
use crate::proto::inference::log_settings_response::SettingValue as Answered;
use crate::proto::inference::log_settings_response::setting_value::ParameterChoice as Answer;
use crate::proto::inference::{LogSettingsRequest, LogSettingsResponse};

/// The format in which the log writes times; there is no other.
const FORMAT: &str = "ISO8601";

/// Changes all settings that the request names, or none where one is refused. Returns every
/// setting.
pub fn settings(request: LogSettingsRequest, may_change: bool) -> Result<LogSettingsResponse> {
    if !may_change && !request.settings.is_empty() {
        let detail = "log settings cannot be changed. Start the server with \
                      '--allow-log-settings' or '--model-control explicit' to enable.";
        return Err(Error::Unimplemented { detail: detail.into() });
    }
    let mut levels = Levels::current();
    for (setting, value) in &request.settings {
        change(&mut levels, setting, value)?;
    }
    if !request.settings.is_empty() {
        levels.apply();
    }
    let told = [
        ("log_file", Answer::StringParam(String::new())),
        ("log_error", Answer::BoolParam(levels.error)),
        ("log_warning", Answer::BoolParam(levels.warning)),
        ("log_info", Answer::BoolParam(levels.info)),
        ("log_verbose_level", Answer::Uint32Param(levels.verbose)),
        ("log_format", Answer::StringParam(FORMAT.into())),
    ];
    let told =
        told.map(|(name, value)| (name.to_owned(), Answered { parameter_choice: Some(value) }));
    Ok(LogSettingsResponse { settings: BTreeMap::from(told) })
}

fn change(levels: &mut Levels, setting: &str, value: &SettingValue) -> Result<()> {
    use ParameterChoice::{BoolParam, StringParam, Uint32Param};
    match (setting, value.parameter_choice.as_ref()) {
        ("log_error", Some(BoolParam(on))) => levels.error = *on,
        ("log_warning", Some(BoolParam(on))) => levels.warning = *on,
        ("log_info", Some(BoolParam(on))) => levels.info = *on,
        ("log_verbose_level", Some(Uint32Param(level))) => levels.verbose = *level,
        ("log_format", Some(StringParam(format))) if format == FORMAT => {}
        ("log_format", Some(StringParam(format))) => {
            return Err(bad(format!(
                "invalid argument for log_format, got: {format}, expected {FORMAT}"
            )));
        }
        ("log_file", _) => {
            let detail = "log file location can not be updated through network protocol";
            return Err(Error::Unimplemented { detail: detail.into() });
        }
        ("log_error" | "log_warning" | "log_info", _) => {
            return Err(bad(format!("expect boolean for '{setting}'")));
        }
        ("log_verbose_level", _) => return Err(bad(format!("expect int32 for '{setting}'"))),
        ("log_format", _) => return Err(bad(format!("expect string for '{setting}'"))),
        _ => return Err(bad(format!("there is no setting '{setting}'"))),
    }
    Ok(())
}

fn bad(detail: String) -> Error {
    Error::BadField { field: "settings", detail }
}
