//! Validation and repair.

pub mod demoted;

use blob_traits::Store;

use crate::case::group;

const REPAIR: &str = "needs validation and repair";

group! {
    "validate_repair", for S: Store;
    validate_clean_store_all_ok_total_counts_complete_and_partial [pending REPAIR],
    validate_bitflip_in_data_detected [pending REPAIR],
    validate_bitflip_in_outboard_detected [pending REPAIR],
    validate_truncated_data_detected [pending REPAIR],
    validate_truncated_outboard_detected [pending REPAIR],
    validate_zero_length_file_detected [pending REPAIR],
    validate_swapped_files_of_two_hashes_detected [pending REPAIR],
    validate_extra_bytes_at_end_detected [pending REPAIR],
    validate_external_reference_modified_detected [pending REPAIR],
    validate_partial_reports_exact_valid_ranges [pending REPAIR],
    validate_continues_after_io_error_reports_entry [pending REPAIR],
    validate_concurrent_delete_is_skipped_not_error [pending REPAIR],
    validate_event_grammar [pending REPAIR],
    validate_abort_event_on_fatal [pending REPAIR],
    validate_receiver_dropped_stops_promptly [pending REPAIR],
    validate_drop_future_at_every_await [pending REPAIR],
    repair_complete_with_damage_becomes_partial_with_valid_ranges_kept [pending REPAIR],
    repair_never_touches_valid_entries [pending REPAIR],
    repair_rebuilds_outboard_when_data_intact [pending REPAIR],
    repair_inline_entry_damage_removed_or_partial [pending REPAIR],
    repair_then_validate_clean_and_redownload_completes [pending REPAIR],
    repair_false_changes_nothing_on_disk [pending REPAIR],
    repair_kill_at_every_io_op_idempotent [pending REPAIR],
}
