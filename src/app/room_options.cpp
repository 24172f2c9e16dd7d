#include "app/room_options.hpp"

#include <unistd.h>

#include <array>

#include "app/identities.hpp"
#include "backends/drivers.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::app {
namespace {

constexpr std::string_view own = config::own_section;
constexpr std::string_view common = "DEFAULT";

std::chrono::milliseconds ms(const config::Config& config, std::string_view option) {
  return config.get_seconds(own, option);
}

unsigned small(const config::Config& config, std::string_view section, std::string_view option) {
  return static_cast<unsigned>(config.get_unsigned(section, option));
}

/// "id", "tag:NAME" or "property:NAME=VALUE".
Result<void> add_warm_images(const std::vector<std::string>& texts, volume_cache::Options& options) {
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    if (base::is_uuid(text)) {
      options.warm_images.push_back(base::to_lower(text));
    } else if (text.starts_with("tag:") && text.size() > 4) {
      options.warm_marks.push_back({.name = text.substr(4), .value = std::nullopt});
    } else if (text.starts_with("property:") && equals != std::string::npos && equals > 9) {
      options.warm_marks.push_back({.name = text.substr(9, equals - 9), .value = text.substr(equals + 1)});
    } else {
      return fail(Errc::invalid_argument, "[image_cache_service] image_volume_warm: \"" + text +
                                              "\" is no image id, tag:NAME or property:NAME=VALUE");
    }
  }
  return {};
}

/// What the operating system calls this machine.
std::string machine_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  return name.data();
}

}  // namespace

base::log::Options log_options(const config::Config& config) {
  return {.level = config.get_bool(common, "debug") ? base::log::Level::debug : base::log::Level::info,
          .log_file = config.log_file()};
}

std::string host_name(const config::Config& config) {
  if (auto host = config.find_string(common, "host"); host && !host->empty()) return *host;
  return machine_name();
}

Result<std::unique_ptr<origin::Origin>> make_origin(const config::Config& config) {
  const auto origins = config.origins();
  if (origins.empty()) {
    return fail(Errc::invalid_argument,
                "no origin: set [image_cache_service] origin to the URL of glance-api or to file:///directory, or "
                "[DEFAULT] glance_api_servers");
  }
  constexpr std::string_view file_scheme = "file://";
  if (origins.front().starts_with(file_scheme)) {
    return origin::make_directory_origin(
        {.directory = origins.front().substr(file_scheme.size()), .state_path = config.get_string(own, "state_path")});
  }
  origin::GlanceOptions options;
  options.urls = origins;
  options.num_retries = small(config, common, "glance_num_retries");
  options.connect_timeout = ms(config, "origin_connect_timeout");
  options.describe_timeout = ms(config, "origin_request_timeout");
  options.low_speed_bytes_per_s = config.get_unsigned(own, "origin_low_speed_bytes");
  options.low_speed_time = config.get_seconds(own, "origin_low_speed_time");
  options.upload_answer_timeout = ms(config, "origin_upload_answer_timeout");
  options.max_describe_bytes = config.get_unsigned(own, "origin_max_metadata_bytes");
  options.max_connections = small(config, own, "origin_max_connections");
  options.max_questions = small(config, own, "origin_max_questions");
  options.insecure = config.get_bool(common, "glance_api_insecure");
  options.ca_file = config.get_string(common, "glance_ca_certificates_file");
  options.cert_file = config.get_string(common, "glance_certfile");
  options.key_file = config.get_string(common, "glance_keyfile");
  return origin::make_glance_origin(std::move(options));
}

image_cache::Options image_cache_options(const config::Config& config) {
  image_cache::Options options;
  options.directory = config.get_string(common, "image_cache_dir");
  // Without an image cache of the operator's, volumes are still made from files that were fetched once and verified.
  if (options.directory.empty()) options.directory = config.get_string(own, "state_path") + "/image-files";
  options.index_driver = base::to_lower(config.get_string(common, "image_cache_driver"));
  if (options.index_driver == "centralized_db") options.index_driver = "sqlite";  // config has said so
  options.lock_path = config.get_string("oslo_concurrency", "lock_path");
  options.eviction_policy = config.get_string(own, "eviction_policy");
  options.ttl = config.get_seconds(own, "image_cache_ttl");
  options.prune_high_percent = small(config, own, "prune_high_percent");
  options.prune_low_percent = small(config, own, "prune_low_percent");
  options.held_percent = small(config, own, "import_held_percent");
  options.scrub_bytes_per_s = config.get_unsigned(own, "scrub_bytes_per_second");
  options.scrub_interval = config.get_seconds(own, "scrub_interval");
  options.prefetch_concurrency = small(config, own, "prefetch_concurrency");
  options.prefetch_bytes_per_s = config.get_unsigned(own, "prefetch_bytes_per_second");
  options.prefetch_retry_interval = config.get_seconds(own, "prefetch_retry_interval");
  options.authorization_memory = ms(config, "authorization_memory");
  options.authorization_memory_entries = config.get_unsigned(own, "authorization_memory_entries");
  options.service_context = service_context(config);
  options.sqlite_db = config.get_string(common, "image_cache_sqlite_db");
  options.max_size_bytes = config.get_unsigned(common, "image_cache_max_size");
  options.stall_time = config.get_seconds(common, "image_cache_stall_time");
  options.free_space_floor_bytes = config.get_unsigned(own, "free_space_floor");
  options.flush_interval = ms(config, "hit_flush_interval");
  options.load_wait = ms(config, "image_cache_load_wait");
  options.clean_interval = ms(config, "clean_interval");
  options.begin_timeout = ms(config, "fill_wait_timeout");
  options.fill_attempts = small(config, own, "fill_attempts");
  options.hold_back_bytes = config.get_unsigned(own, "hold_back_bytes");
  return options;
}

Result<volume_cache::Options> volume_cache_options(const config::Config& config) {
  volume_cache::Options options;
  IMAGECACHE_CHECK(add_warm_images(config.get_list(own, "image_volume_warm"), options));
  options.stale_by_updated_at = base::to_lower(config.get_string(own, "image_volume_staleness")) == "updated_at";
  options.upkeep_interval = ms(config, "image_volume_upkeep_interval");
  options.ttl = config.get_seconds(own, "image_volume_ttl");
  options.high_percent = small(config, own, "image_volume_high_percent");
  options.low_percent = small(config, own, "image_volume_low_percent");
  options.poll_interval = ms(config, "image_volume_poll_interval");
  options.warm_interval = ms(config, "image_volume_warm_interval");
  options.warm_from_hour = small(config, own, "image_volume_warm_from_hour");
  options.warm_until_hour = small(config, own, "image_volume_warm_until_hour");
  options.warm_max = small(config, own, "image_volume_warm_max");
  options.host = host_name(config);
  options.internal_project_id = config.get_string(common, "cinder_internal_tenant_project_id");
  options.internal_user_id = config.get_string(common, "cinder_internal_tenant_user_id");
  options.volume_name_template = config.get_string(common, "volume_name_template");
  options.availability_zone = config.get_string(common, "storage_availability_zone");
  options.default_volume_type = config.get_string(common, "default_volume_type");
  options.max_creates = small(config, own, "max_creates");
  options.head_start_entries = config.get_unsigned(own, "head_start_entries");
  options.max_conversions = small(config, own, "max_conversions");
  options.max_volume_copies = small(config, own, "max_volume_copies");
  options.create_timeout = ms(config, "create_timeout");
  options.flush_interval = ms(config, "hit_flush_interval");
  options.import_linger = ms(config, "import_linger");
  options.import_look_interval = ms(config, "import_look_interval");
  options.message_ttl = config.get_seconds(common, "message_ttl");
  options.conversion_disabled = config.get_bool(common, "image_conversion_disable");
  options.verify_signatures = base::to_lower(config.get_string(common, "verify_glance_signatures")) != "disabled";
  options.inspect.vmdk_allowed_types = config.get_list(common, "vmdk_allowed_types");
  options.inspect.max_virtual_size_bytes = config.get_unsigned(own, "max_virtual_size");
  options.convert.conversion_dir = config.get_string(common, "image_conversion_dir");
  options.convert.threads = small(config, own, "conversion_threads");
  options.convert.timeout = config.get_seconds(own, "conversion_timeout");
  options.convert.cpu_limit_s = config.get_unsigned(own, "conversion_cpu_limit");
  options.convert.address_space_limit_bytes = config.get_unsigned(own, "conversion_address_space_limit");
  return options;
}

catalog::QuotaDefaults quota_defaults(const config::Config& config) {
  return {{"volumes", config.get_int(common, "quota_volumes")},
          {"gigabytes", config.get_int(common, "quota_gigabytes")},
          {"snapshots", config.get_int(common, "quota_snapshots")},
          {"groups", config.get_int(common, "quota_groups")},
          {"backups", config.get_int(common, "quota_backups")},
          {"backup_gigabytes", config.get_int(common, "quota_backup_gigabytes")},
          {"per_volume_gigabytes", config.get_int(common, "per_volume_size_limit")}};
}

http::Limits http_limits(const config::Config& config) {
  http::Limits limits;
  limits.max_connections = config.get_unsigned(own, "max_connections");
  limits.max_header_bytes = small(config, own, "max_header_bytes");
  limits.max_body_bytes = config.get_unsigned(own, "max_request_body_size");
  limits.header_timeout = ms(config, "header_timeout");
  limits.idle_timeout = ms(config, "idle_timeout");
  limits.full_idle_timeout = ms(config, "full_idle_timeout");
  limits.full_header_timeout = ms(config, "full_header_timeout");
  limits.body_timeout = ms(config, "body_timeout");
  limits.upstream_timeout = ms(config, "fill_wait_timeout");
  return limits;
}

http::UpstreamTls upstream_tls(const config::Config& config) {
  return {.insecure = config.get_bool(common, "glance_api_insecure"),
          .ca_file = config.get_string(common, "glance_ca_certificates_file"),
          .cert_file = config.get_string(common, "glance_certfile"),
          .key_file = config.get_string(common, "glance_keyfile")};
}

std::optional<http::ServerTls> server_tls(const config::Config& config) {
  if (config.get_string(own, "tls_cert_file").empty()) return std::nullopt;
  return http::ServerTls{.cert_file = config.get_string(own, "tls_cert_file"),
                         .key_file = config.get_string(own, "tls_key_file"),
                         .client_ca_file = config.get_string(own, "tls_client_ca_file")};
}

http::BindAddress bind_address(const config::Config& config, std::string_view option) {
  const auto address = config.get_bind_address(own, option);
  return {.host = address.host, .port = address.port, .unix_path = address.unix_path};
}

api::Options api_options(const config::Config& config) {
  api::Options options;
  options.osapi_max_limit = config.get_unsigned(common, "osapi_max_limit");
  options.availability_zone = config.get_string(common, "storage_availability_zone");
  options.internal_project_id = config.get_string(common, "cinder_internal_tenant_project_id");
  options.internal_user_id = config.get_string(common, "cinder_internal_tenant_user_id");
  options.default_volume_type = config.get_string(common, "default_volume_type");
  options.host = host_name(config);
  options.machine = machine_name();
  options.enable_force_upload = config.get_bool(common, "enable_force_upload");
  options.hook_default_deadline = ms(config, "hook_default_deadline");
  options.hook_max_deadline = ms(config, "hook_max_deadline");
  options.public_endpoint = config.get_string(own, "volume_public_endpoint");
  options.image_cache_max_size_bytes = config.get_unsigned(common, "image_cache_max_size");
  return options;
}

namespace {

/// What Cinder's drivers report as storage_protocol, with their older names behind it.
std::vector<std::string> storage_protocols(std::string_view driver_name) {
  if (driver_name.contains("rbd") || driver_name.contains("Rbd") || driver_name.contains("RBD")) return {"ceph"};
  if (driver_name.contains("lvm") || driver_name.contains("LVM")) return {"iSCSI", "iscsi"};
  if (driver_name.contains("nfs")) return {"nfs"};
  // The files are such as Cinder's NFS driver makes.
  if (driver_name == "file") return {"file", "nfs"};
  return {std::string(driver_name)};
}

/// Without the slash at its end.
std::string import_url(const config::BackendSection& section) {
  if (!section.get_bool("rbd_instant_import")) return {};
  std::string url = section.get_string("rbd_import_url");
  while (url.ends_with('/')) url.pop_back();
  return url;
}

}  // namespace

Result<std::vector<std::unique_ptr<volume_cache::Backend>>> make_backends(const config::Config& config) {
  std::vector<std::unique_ptr<volume_cache::Backend>> made;
  const std::string host = host_name(config);
  for (const auto& section : config.enabled_backends()) {
    const std::string driver_name = section.get_string("volume_driver");
    const DriverFactory factory = backends::find_driver(driver_name);
    if (!factory) {
      base::log::warning("app", nullptr,
                         "[{}] volume_driver = {}: no driver of ours serves it (we have: {}); left alone",
                         section.section(), driver_name, fmt::join(backends::driver_names(), ", "));
      continue;
    }
    auto made_driver = factory(section);
    if (!made_driver && made_driver.error().code == Errc::unsupported) {
      base::log::warning("app", nullptr, "{}; the section is left to Cinder", made_driver.error().message);
      continue;
    }
    IMAGECACHE_TRY(std::unique_ptr<Driver> driver, std::move(made_driver));
    const std::string backend_host = section.find_string("backend_host").value_or(host);
    auto backend = std::make_unique<volume_cache::Backend>(
        volume_cache::BackendOptions{
            .name = section.section(),
            .volume_backend_name = section.volume_backend_name(),
            .driver_name = driver_name,
            .host = backend_host + "@" + section.section(),
            .storage_protocols = storage_protocols(driver_name),
            .image_volume_cache_enabled = section.get_bool("image_volume_cache_enabled"),
            .image_volume_cache_max_size_gb = section.get_unsigned("image_volume_cache_max_size_gb"),
            .image_volume_cache_max_count = section.get_unsigned("image_volume_cache_max_count"),
            .queue_limit = config.get_unsigned(own, "backend_queue_limit"),
            .import_url = import_url(section)},
        std::move(driver));
    if (auto works = backend->check_for_setup_error(); !works) {
      if (works.error().code == Errc::unsupported) {
        base::log::warning("app", nullptr, "[{}] {}; the section is left to Cinder", section.section(),
                           works.error().message);
        continue;
      }
      return fail(works.error().code, "[" + section.section() + "] " + works.error().message);
    }
    made.push_back(std::move(backend));
  }
  return made;
}

}  // namespace imagecache::app
