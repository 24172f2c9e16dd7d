// What the service counts, for operators (/metrics, status) and for tests, which prove races with them.
//
// Plain atomics, written from any thread; a reader sees each one whole, not all at one instant. Names and help texts
// are in counters.cpp, in Prometheus' conventions.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace imagecache::events {

using Counter = std::atomic<std::uint64_t>;

struct Counters {
  // Image cache, by requests. The words are RFC 9211's.
  Counter image_hits, image_collapsed, image_misses, image_passes, image_ranges, image_errors;
  // Image cache, by bytes sent to clients.
  Counter image_hit_bytes, image_collapsed_bytes, image_miss_bytes, image_pass_bytes;
  Counter image_range_bytes;  // of these, in answers to a part of an image
  Counter image_error_bytes;  // of these, in answers that broke off
  // Fills: bytes that really came from the origin, and the time that those which were published took.
  Counter fills_started, fills_resumed, fills_restarted, fills_completed, fills_failed, fill_bytes;
  Counter fill_microseconds, fill_completed_bytes;
  Counter fill_digest_mismatches;
  // Whole image files that left: image_evictions is size, floor and ttl together, what the cache decided by itself.
  Counter image_evictions, image_evicted_bytes, image_files_invalidated;
  Counter image_evictions_size, image_evictions_floor, image_evictions_ttl, image_evictions_clear,
      image_evictions_deleted, image_evictions_content_changed, image_evictions_invalid;
  Counter image_fetched_again;  // fills of what had been evicted not long ago
  Counter origin_describes, origin_retries;
  // "May this caller have the bytes?": put to the origin, joined to a question under way, answered from memory; and how
  // many of them were a no.
  Counter authorizations_asked, authorizations_joined, authorizations_remembered, authorizations_denied;
  // Files at rest that were read again.
  Counter scrubbed_files, scrubbed_bytes, scrub_failures, scrub_skips;
  // The queue.
  Counter prefetches_started, prefetches_completed, prefetches_failed, prefetches_cancelled, prefetch_bytes;
  // Volume cache.
  Counter volume_hits, volume_misses, volume_collapsed, volume_uncached;
  Counter volume_builds_started, volume_builds_completed, volume_builds_failed;
  Counter volumes_created, volumes_failed, volumes_deleted, volumes_recovered;
  Counter image_volume_evictions, image_volume_repairs, image_volume_quota_refusals;
  // Of the evictions, those that nobody asked for: too long unused, above the high mark, the image gone or another.
  Counter image_volumes_expired, image_volumes_above_mark, image_volumes_orphaned;
  Counter image_volumes_warmed;  // built ahead, because the operator wants these images kept warm
  // Image-volumes that could be cloned before their bytes were copied; images that were copied as ever because that
  // failed; attempts at copying that failed, to be made again; and those that have all their bytes now.
  Counter volume_imports_started, volume_imports_refused, volume_imports_failed, volume_imports_completed;
  Counter volume_imports_put_off;  // copied as ever because an earlier one had failed for its backend
  Counter convert_bytes;
  // Notifications: confirmed by the broker; dropped because too many waited, because it would not take them, or at a
  // stop; and how often one was sent and not confirmed, to be sent again.
  Counter notifications_sent, notifications_dropped_full, notifications_dropped_refused, notifications_dropped_stop;
  Counter notifications_unconfirmed;
  // Messages from Glance's bus: about an image that there may be something of here, and others.
  Counter image_hints_heard, image_hints_ignored, image_hints_dropped;
  // HTTP.
  Counter http_requests, http_connections_accepted, http_connections_waited, http_connections_displaced;
  Counter http_tls_failures, http_timeouts;
  // Gauges.
  Counter http_connections, fills_in_flight, image_cache_bytes, image_cache_reserved_bytes, image_cache_files;
  Counter image_cache_loading;  // 1 while the directory is still being read after a start
  Counter image_cache_limit_bytes, image_cache_pinned_files, image_cache_held_files, image_cache_held_bytes;
  Counter prefetch_queue_length, fill_last_bytes_per_s;
  Counter notifications_waiting;
};

struct CounterValue {
  std::string_view name;  ///< "imagecache_image_requests_total"
  std::string_view label_name;
  std::string_view label_value;
  std::string_view help;
  bool gauge = false;
  std::uint64_t value = 0;
  std::uint64_t divisor = 1;  ///< value / divisor is in the unit that the name says
};

std::vector<CounterValue> snapshot(const Counters& counters);
/// Prometheus' text format 0.0.4.
std::string prometheus_text(const Counters& counters);

}  // namespace imagecache::events
