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

    {&C::fills_started, "imagecache_fills_started_total", "", "", "Downloads from the origin that were begun"},
    {&C::fills_resumed, "imagecache_fills_resumed_total", "", "", "Downloads that went on from a partial file"},
    {&C::fills_completed, "imagecache_fills_completed_total", "", "", "Downloads that were verified and published"},
    {&C::fills_failed, "imagecache_fills_failed_total", "", "", "Downloads that ended without an image file"},
    {&C::fill_bytes, "imagecache_fill_bytes_total", "", "", "Image bytes that came from the origin"},
    {&C::fill_digest_mismatches, "imagecache_fill_digest_mismatches_total", "", "",
     "Downloads whose bytes were not what os_hash_value says"},
    {&C::fills_in_flight, "imagecache_fills_in_flight", "", "", "Downloads from the origin that run now", true},

    {&C::image_evictions, "imagecache_image_evictions_total", "", "", "Image files evicted to make room"},
    {&C::image_evicted_bytes, "imagecache_image_evicted_bytes_total", "", "", "Bytes of the image files evicted"},
    {&C::image_files_invalidated, "imagecache_image_files_invalidated_total", "", "",
     "Image files dropped because they were no longer what was published"},
    {&C::image_cache_files, "imagecache_image_cache_files", "", "", "Image files in the cache", true},
    {&C::image_cache_bytes, "imagecache_image_cache_bytes", "", "", "Bytes of the image files in the cache", true},
    {&C::image_cache_reserved_bytes, "imagecache_image_cache_reserved_bytes", "", "",
     "Bytes set aside for downloads that run now", true},

    {&C::origin_describes, "imagecache_origin_describes_total", "", "", "Questions about an image put to the origin"},
    {&C::origin_retries, "imagecache_origin_retries_total", "", "", "Requests to the origin that were tried again"},

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
    {&C::image_volume_repairs, "imagecache_image_volume_repairs_total", "", "",
     "Image-volumes made anew because the backend had lost or broken them"},
    {&C::image_volume_quota_refusals, "imagecache_image_volume_quota_refusals_total", "", "",
     "Image-volumes not kept because the internal project's quota is used up"},
    {&C::convert_bytes, "imagecache_convert_bytes_total", "", "", "Bytes of image data written into image-volumes"},

    {&C::http_requests, "imagecache_http_requests_total", "", "", "HTTP requests"},
    {&C::http_connections_accepted, "imagecache_http_connections_accepted_total", "", "", "HTTP connections accepted"},
    {&C::http_connections_refused, "imagecache_http_connections_refused_total", "", "",
     "HTTP connections closed at once because there were too many"},
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
                      (counters.*row.value).load(std::memory_order_relaxed)});
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
    (counter.gauge ? metric.gauge.value : metric.counter.value) = static_cast<double>(counter.value);
    families.back().metric.push_back(std::move(metric));
  }
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, families);
  return std::move(text).str();
}

}  // namespace imagecache::events
