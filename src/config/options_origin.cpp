// The table's part on where images come from.
#include <array>

#include "config/option_parts.hpp"

namespace imagecache::config {
namespace {

using enum Type;

constexpr auto table = std::to_array<Option>({
    {.section = own_section,
     .name = "origin",
     .type = origins,
     .help = "Where images come from: http(s) URLs of glance-api, tried in turn, or one file:///directory of image "
             "files; unset: glance_api_servers."},
    {.section = own_section,
     .name = "origin_preserve_host",
     .type = boolean,
     .default_text = "true",
     .help =
         "Requests that are passed on carry the client's own Host header, so that links in glance-api's answers lead "
         "back to us; false sends the origin's name, for an origin that chooses its site by it."},
    {.section = own_section,
     .name = "origin_connect_timeout",
     .type = integer,
     .default_text = "10",
     .unit = "seconds",
     .min = 1,
     .max = 3600,
     .help = "The origin must have answered a connect after this."},
    {.section = own_section,
     .name = "origin_request_timeout",
     .type = integer,
     .default_text = "60",
     .unit = "seconds",
     .min = 1,
     .max = day_s,
     .help = "The origin must have answered a request for metadata after this, unless glance_request_timeout is set."},
    {.section = own_section,
     .name = "origin_low_speed_bytes",
     .type = size,
     .default_text = "1024",
     .unit = "bytes/s",
     .min = 0,
     .max = int64_max,
     .help = "A download slower than this per second, for origin_low_speed_time, is broken off and taken up again."},
    {.section = own_section,
     .name = "origin_low_speed_time",
     .type = integer,
     .default_text = "60",
     .unit = "seconds",
     .min = 1,
     .max = day_s,
     .help = "How long a download may be slower than origin_low_speed_bytes."},
    {.section = own_section,
     .name = "origin_upload_answer_timeout",
     .type = integer,
     .default_text = "3600",
     .unit = "seconds",
     .min = 1,
     .max = 7 * day_s,
     .help = "Once an uploaded volume's last byte is sent, the image service must have put it away after this."},
    {.section = own_section,
     .name = "origin_max_connections",
     .type = integer,
     .default_text = "16",
     .min = 1,
     .max = 10000,
     .help = "Downloads from the origin at once, each on a connection of its own."},
    {.section = own_section,
     .name = "origin_max_questions",
     .type = integer,
     .default_text = "64",
     .min = 1,
     .max = 10000,
     .help =
         "Questions to the origin at once (may this caller have that image, what is it), each on a connection of its "
         "own and each with a thread."},
    {.section = own_section,
     .name = "origin_max_metadata_bytes",
     .type = size,
     .default_text = "4194304",
     .unit = "bytes",
     .min = 1024,
     .max = 1073741824,
     .help = "An answer of the origin that is not image data may have this much."},
    {.section = "DEFAULT",
     .name = "glance_api_servers",
     .type = list,
     .help = "URLs of glance-api, [http[s]://]host:port[/path]; tried in turn."},
    {.section = "DEFAULT",
     .name = "glance_num_retries",
     .type = integer,
     .default_text = "3",
     .min = 0,
     .max = 1000,
     .help = "Further attempts when glance-api is not reachable or answers 503."},
    {.section = "DEFAULT",
     .name = "glance_api_insecure",
     .type = boolean,
     .default_text = "false",
     .help = "Do not check glance-api's certificate."},
    {.section = "DEFAULT",
     .name = "glance_ca_certificates_file",
     .type = path,
     .help = "Certificates of the authorities that may have signed glance-api's."},
    {.section = "DEFAULT", .name = "glance_certfile", .type = path, .help = "Our certificate for glance-api."},
    {.section = "DEFAULT", .name = "glance_keyfile", .type = path, .help = "Key of our certificate for glance-api."},
    {.section = "DEFAULT",
     .name = "glance_request_timeout",
     .type = integer,
     .unit = "seconds",
     .min = 1,
     .max = day_s,
     .help = "glance-api must have answered a request for metadata after this."},
});

}  // namespace

std::span<const Option> origin_options() {
  return table;
}

}  // namespace imagecache::config
