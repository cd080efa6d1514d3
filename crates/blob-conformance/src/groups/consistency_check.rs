//! The check of what only a backend knows of itself.

use blob_traits::Store;

use crate::case::group;

const CHECK: &str = "needs the consistency check";

group! {
    "consistency_check", for S: Store;
    cc_clean_store_no_warn_or_error [pending CHECK],
    cc_orphan_data_file_reported_and_quarantined [pending CHECK],
    cc_orphan_outboard_reported_and_quarantined [pending CHECK],
    cc_missing_owned_data_file_reported_downgraded [pending CHECK],
    cc_missing_outboard_reported_rebuilt [pending CHECK],
    cc_wrong_size_file_reported [pending CHECK],
    cc_inline_entry_too_large [pending CHECK],
    cc_inline_entry_missing [pending CHECK],
    cc_stale_temp_and_creating_files_removed [pending CHECK],
    cc_tag_to_missing_blob_warn [pending CHECK],
    cc_external_path_missing_warn_other_paths_kept [pending CHECK],
    cc_unknown_files_in_store_dir_reported_never_deleted [pending CHECK],
    cc_db_corruption_reported_not_panic [pending CHECK],
    cc_repair_idempotent_second_run_clean [pending CHECK],
    cc_event_grammar_start_update_done_or_abort [pending CHECK],
    cc_random_file_level_damage_then_repair_then_all_readable_entries_valid [pending CHECK],
}
