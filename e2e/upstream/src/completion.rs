//! Completion of prompt and template arguments.

use rmcp::{
    ErrorData,
    model::{CompleteRequestParams, CompleteResult, CompletionInfo},
};

/// What there is to complete, whatever the argument is.
const WORDS: [&str; 4] = ["hello", "paris", "park", "party"];

pub(crate) fn complete(request: &CompleteRequestParams) -> Result<CompleteResult, ErrorData> {
    let typed = request.argument.value.as_str();
    let fitting =
        WORDS.iter().filter(|word| word.starts_with(typed)).map(|word| (*word).to_owned()).collect();
    CompletionInfo::with_all_values(fitting)
        .map(CompleteResult::new)
        .map_err(|error| ErrorData::internal_error(error, None))
}
