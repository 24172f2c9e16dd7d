#include "events/counters.hpp"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <sstream>

namespace imagecache::events {
namespace {

struct Row {
  Counter Counters::* value;
  std::string_view name;
  std::string_view label_name;
  std::string_view label_value;
  std::string_view help;
  bool gauge = false;
  std::uint64_t divisor = 1;
};

using C = Counters;

// In Prometheus' conventions: a counter ends in _total, the unit stands before it. A label has a handful of values at
// most, and never an image's or a volume's id: each value is a series that the operator's server keeps for ever. Rows
// of one name stand together.
constexpr Row rows[] = {
    {&C::image_hits, "imagecache_image_requests_total", "result", "hit", "Requests for an image's bytes, by result"},
    {&C::image_collapsed, "imagecache_image_requests_total", "result", "collapsed", ""},
    {&C::image_misses, "imagecache_image_requests_total", "result", "miss", ""},
    {&C::image_passes, "imagecache_image_requests_total", "result", "pass", ""},
    {&C::image_errors, "imagecache_image_requests_total", "result", "error", ""},
    {&C::image_ranges, "imagecache_image_range_requests_total", "", "", "Requests for a part of an image"},
    {&C::image_hit_bytes, "imagecache_image_sent_bytes_total", "result", "hit", "Image bytes sent, by result"},
    {&C::image_collapsed_bytes, "imagecache_image_sent_bytes_total", "result", "collapsed", ""},
    {&C::image_miss_bytes, "imagecache_image_sent_bytes_total", "result", "miss", ""},
    {&C::image_pass_bytes, "imagecache_image_sent_bytes_total", "result", "pass", ""},
    {&C::image_error_bytes, "imagecache_image_broken_bytes_total", "", "",
     "Image bytes sent in answers that then broke off"},
    {&C::image_range_bytes, "imagecache_image_range_bytes_total", "", "",
     "Image bytes sent in answers to requests for a part"},

    {&C::fills_started, "imagecache_fills_started_total", "", "", "Downloads from the origin that were begun"},
    {&C::fills_resumed, "imagecache_fills_resumed_total", "", "", "Downloads that went on from a partial file"},
    {&C::fills_restarted, "imagecache_fills_restarted_total", "", "",
     "Downloads that began anew because the image had changed or a partial file was wrong"},
    {&C::fills_completed, "imagecache_fills_completed_total", "", "", "Downloads that were verified and published"},
    {&C::fills_failed, "imagecache_fills_failed_total", "", "", "Downloads that ended without an image file"},
    {&C::fill_bytes, "imagecache_fill_bytes_total", "", "", "Image bytes that came from the origin"},
    {&C::fill_microseconds, "imagecache_fill_seconds_total", "", "", "Time that the published downloads took", false,
     1'000'000},
    {&C::fill_completed_bytes, "imagecache_fill_completed_bytes_total", "", "",
     "Bytes that came from the origin for the published downloads"},
    {&C::fill_last_bytes_per_s, "imagecache_fill_last_bytes_per_second", "", "",
     "Rate of the download that was published last", true},
    {&C::fill_digest_mismatches, "imagecache_fill_digest_mismatches_total", "", "",
     "Downloads whose bytes were not what os_hash_value says"},
    {&C::fills_in_flight, "imagecache_fills_in_flight", "", "", "Downloads from the origin that run now", true},

    {&C::image_evictions_size, "imagecache_image_evictions_total", "reason", "size",
     "Image files that left the cache, by reason"},
    {&C::image_evictions_floor, "imagecache_image_evictions_total", "reason", "floor", ""},
    {&C::image_evictions_ttl, "imagecache_image_evictions_total", "reason", "ttl", ""},
    {&C::image_evictions_clear, "imagecache_image_evictions_total", "reason", "clear", ""},
    {&C::image_evictions_deleted, "imagecache_image_evictions_total", "reason", "deleted", ""},
    {&C::image_evictions_content_changed, "imagecache_image_evictions_total", "reason", "content_changed", ""},
    {&C::image_evictions_invalid, "imagecache_image_evictions_total", "reason", "invalid", ""},
    {&C::image_evictions, "imagecache_image_evicted_files_total", "", "", "Image files evicted for room or age"},
    {&C::image_evicted_bytes, "imagecache_image_evicted_bytes_total", "", "",
     "Bytes of the image files evicted for room or age"},
    {&C::image_fetched_again, "imagecache_image_fetched_again_total", "", "",
     "Downloads of images that had been evicted not long ago"},
    {&C::image_files_invalidated, "imagecache_image_files_invalidated_total", "", "",
     "Image files dropped because they were no longer what was published"},
    {&C::image_cache_files, "imagecache_image_cache_files", "", "", "Image files in the cache", true},
    {&C::image_cache_bytes, "imagecache_image_cache_bytes", "", "", "Bytes of the image files in the cache", true},
    {&C::image_cache_reserved_bytes, "imagecache_image_cache_reserved_bytes", "", "",
     "Bytes set aside for downloads, and of partial, invalid and leaving files, and of those held for instant imports "
     "that are in the cache no more",
     true},
    {&C::image_cache_loading, "imagecache_image_cache_loading", "", "",
     "1 while the image cache's directory is still being read after a start: until then files and bytes are too few",
     true},
    {&C::image_cache_limit_bytes, "imagecache_image_cache_limit_bytes", "", "", "What image_cache_max_size allows",
     true},
    {&C::image_cache_pinned_files, "imagecache_image_cache_pinned_files", "", "", "Images that are never evicted",
     true},
    {&C::image_cache_held_files, "imagecache_image_cache_held_files", "", "",
     "Image files that are held for instant imports and those who read from them", true},
    {&C::image_cache_held_bytes, "imagecache_image_cache_held_bytes", "", "",
     "Their bytes; part of imagecache_image_cache_bytes, or, of files that have left the cache, of the reserved ones",
     true},

    {&C::origin_describes, "imagecache_origin_describes_total", "", "", "Questions about an image put to the origin"},
    {&C::authorizations_asked, "imagecache_authorizations_total", "answered_by", "origin",
     "Questions whether a caller may have an image's bytes, by who answered"},
    {&C::authorizations_joined, "imagecache_authorizations_total", "answered_by", "question_under_way", ""},
    {&C::authorizations_remembered, "imagecache_authorizations_total", "answered_by", "memory", ""},
    {&C::authorizations_denied, "imagecache_authorizations_denied_total", "", "", "Of these, answered with no"},
    {&C::origin_retries, "imagecache_origin_retries_total", "", "", "Requests to the origin that were tried again"},

    {&C::scrubbed_files, "imagecache_scrubbed_files_total", "", "", "Image files at rest that were read and digested"},
    {&C::scrubbed_bytes, "imagecache_scrubbed_bytes_total", "", "", "Bytes of image files at rest that were digested"},
    {&C::scrub_failures, "imagecache_scrub_failures_total", "", "", "Image files at rest that were found damaged"},
    {&C::scrub_skips, "imagecache_scrub_skips_total", "", "",
     "Image files at rest that could not be checked, because nobody says what they should be"},

    {&C::prefetches_started, "imagecache_prefetches_started_total", "", "", "Queued images that were begun with"},
    {&C::prefetches_completed, "imagecache_prefetches_completed_total", "", "", "Queued images that are cached now"},
    {&C::prefetches_failed, "imagecache_prefetches_failed_total", "", "",
     "Attempts at a queued image that failed, to be tried again or not"},
    {&C::prefetches_cancelled, "imagecache_prefetches_cancelled_total", "", "", "Queued images taken off the queue"},
    {&C::prefetch_bytes, "imagecache_prefetch_bytes_total", "", "", "Image bytes fetched for the queue alone"},
    {&C::prefetch_queue_length, "imagecache_prefetch_queue_length", "", "", "Images in the queue", true},

    {&C::volume_hits, "imagecache_volume_requests_total", "result", "hit",
     "Volumes asked for from an image, by result"},
    {&C::volume_collapsed, "imagecache_volume_requests_total", "result", "collapsed", ""},
    {&C::volume_misses, "imagecache_volume_requests_total", "result", "miss", ""},
    {&C::volume_uncached, "imagecache_volume_requests_total", "result", "uncached", ""},
    {&C::volumes_created, "imagecache_volumes_created_total", "", "", "Volumes that became available"},
    {&C::volumes_failed, "imagecache_volumes_failed_total", "", "", "Volumes that ended in error"},
    {&C::volumes_deleted, "imagecache_volumes_deleted_total", "", "", "Volumes deleted"},
    {&C::volumes_recovered, "imagecache_volumes_recovered_total", "", "", "Unfinished volumes settled at start"},
    {&C::volume_builds_started, "imagecache_image_volume_builds_started_total", "", "", "Image-volumes begun"},
    {&C::volume_builds_completed, "imagecache_image_volume_builds_completed_total", "", "", "Image-volumes made"},
    {&C::volume_builds_failed, "imagecache_image_volume_builds_failed_total", "", "", "Image-volumes that failed"},
    {&C::image_volume_evictions, "imagecache_image_volume_evictions_total", "", "", "Image-volumes evicted"},
    {&C::image_volumes_expired, "imagecache_image_volume_upkeep_evictions_total", "reason", "ttl",
     "Of these, those that the service let go by itself, by reason"},
    {&C::image_volumes_above_mark, "imagecache_image_volume_upkeep_evictions_total", "reason", "high_mark", ""},
    {&C::image_volumes_orphaned, "imagecache_image_volume_upkeep_evictions_total", "reason", "image_gone", ""},
    {&C::image_volumes_warmed, "imagecache_image_volumes_warmed_total", "", "",
     "Image-volumes built ahead of any request"},
    {&C::volume_imports_started, "imagecache_image_volume_imports_total", "result", "started",
     "Instant imports of image-volumes: begun, copied as ever instead, copied as ever without an attempt because an "
     "earlier one had found the backend or its URL at fault, attempts at copying that failed, ended"},
    {&C::volume_imports_refused, "imagecache_image_volume_imports_total", "result", "refused", ""},
    {&C::volume_imports_put_off, "imagecache_image_volume_imports_total", "result", "put_off", ""},
    {&C::volume_imports_failed, "imagecache_image_volume_imports_total", "result", "failed", ""},
    {&C::volume_imports_completed, "imagecache_image_volume_imports_total", "result", "completed", ""},
    {&C::image_volume_repairs, "imagecache_image_volume_repairs_total", "", "",
     "Image-volumes made anew because the backend had lost or broken them"},
    {&C::image_volume_quota_refusals, "imagecache_image_volume_quota_refusals_total", "", "",
     "Image-volumes not kept because the internal project's quota is used up"},
    {&C::convert_bytes, "imagecache_convert_bytes_total", "", "", "Bytes of image data written into image-volumes"},

    {&C::notifications_sent, "imagecache_notifications_sent_total", "", "", "Notifications that the broker confirmed"},
    {&C::notifications_dropped_full, "imagecache_notifications_dropped_total", "reason", "full",
     "Notifications given up, by reason"},
    {&C::notifications_dropped_refused, "imagecache_notifications_dropped_total", "reason", "refused", ""},
    {&C::notifications_dropped_stop, "imagecache_notifications_dropped_total", "reason", "stop", ""},
    {&C::notifications_unconfirmed, "imagecache_notifications_unconfirmed_total", "", "",
     "Notifications that were sent and not confirmed, to be sent again"},
    {&C::notifications_waiting, "imagecache_notifications_waiting", "", "",
     "Notifications that the broker has not confirmed yet", true},

    {&C::image_hints_heard, "imagecache_image_notifications_total", "result", "heard",
     "Messages of Glance's on the bus, by what became of them"},
    {&C::image_hints_ignored, "imagecache_image_notifications_total", "result", "ignored", ""},
    {&C::image_hints_dropped, "imagecache_image_notifications_total", "result", "dropped", ""},

    {&C::http_requests, "imagecache_http_requests_total", "", "", "HTTP requests"},
    {&C::http_connections_accepted, "imagecache_http_connections_accepted_total", "", "", "HTTP connections accepted"},
    {&C::http_connections_waited, "imagecache_http_connections_waited_total", "", "",
     "HTTP connections that had to wait for max_connections"},
    {&C::http_connections_displaced, "imagecache_http_connections_displaced_total", "", "",
     "HTTP connections without a whole request that were closed to let in one that waited"},
    {&C::http_tls_failures, "imagecache_http_tls_failures_total", "", "", "TLS handshakes that failed"},
    {&C::http_timeouts, "imagecache_http_timeouts_total", "", "",
     "HTTP connections closed because the client was too slow"},
    {&C::http_connections, "imagecache_http_connections", "", "", "HTTP connections that are open", true},
};

}  // namespace

std::vector<CounterValue> snapshot(const Counters& counters) {
  std::vector<CounterValue> values;
  values.reserve(std::size(rows));
  for (const Row& row : rows) {
    // The first row of a name has the help for all of it.
    const bool same_family = !values.empty() && values.back().name == row.name;
    const auto help = same_family ? values.back().help : row.help;
    values.push_back({row.name, row.label_name, row.label_value, help, row.gauge,
                      (counters.*row.value).load(std::memory_order_relaxed), row.divisor});
  }
  return values;
}

std::string prometheus_text(const Counters& counters) {
  std::vector<prometheus::MetricFamily> families;
  for (const CounterValue& counter : snapshot(counters)) {
    if (families.empty() || families.back().name != counter.name) {
      families.push_back({std::string(counter.name),
                          std::string(counter.help),
                          counter.gauge ? prometheus::MetricType::Gauge : prometheus::MetricType::Counter,
                          {}});
    }
    prometheus::ClientMetric metric;
    if (!counter.label_name.empty())
      metric.label.push_back({std::string(counter.label_name), std::string(counter.label_value)});
    (counter.gauge ? metric.gauge.value : metric.counter.value) =
        static_cast<double>(counter.value) / static_cast<double>(counter.divisor);
    families.back().metric.push_back(std::move(metric));
  }
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, families);
  return std::move(text).str();
}

}  // namespace imagecache::events
