// From one Config to each room's own options.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "api/context.hpp"
#include "base/log.hpp"
#include "catalog/catalog.hpp"
#include "config/config.hpp"
#include "http/server.hpp"
#include "image_cache/image_cache.hpp"
#include "origin/origin.hpp"
#include "volume_cache/volume_cache.hpp"

namespace imagecache::app {

base::log::Options log_options(const config::Config& config);
Result<std::unique_ptr<origin::Origin>> make_origin(const config::Config& config);
image_cache::Options image_cache_options(const config::Config& config);
Result<volume_cache::Options> volume_cache_options(const config::Config& config);
catalog::QuotaDefaults quota_defaults(const config::Config& config);
http::Limits http_limits(const config::Config& config);
http::UpstreamTls upstream_tls(const config::Config& config);
/// Of the image and volume API on TCP; none where tls_cert_file is not set.
std::optional<http::ServerTls> server_tls(const config::Config& config);
http::BindAddress bind_address(const config::Config& config, std::string_view option);
api::Options api_options(const config::Config& config);
/// A driver for each enabled backend that we have one for, set up; a section of another's driver is left alone with a
/// line in the log. An error if one of ours does not work.
Result<std::vector<std::unique_ptr<volume_cache::Backend>>> make_backends(const config::Config& config);
/// The host part of "host@backend": [DEFAULT] host, else this machine's name.
std::string host_name(const config::Config& config);

}  // namespace imagecache::app
