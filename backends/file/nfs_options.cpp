// From a section of cinder.conf to a SharesDriver.
#include <charconv>

#include "backends/file/shares_driver.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

/// The options of one section, as oslo.config reads them.
class Reader {
 public:
  explicit Reader(const BackendOptions& options) : options_(options) {}

  [[nodiscard]] std::unexpected<Error> wrong(std::string_view name, const std::string& what,
                                             Errc code = Errc::invalid_argument) const {
    return fail(code, "[" + options_.section() + "] " + std::string(name) + " = " + text(name, "") + ": " + what);
  }
  std::string text(std::string_view name, std::string_view otherwise) const {
    const auto value = options_.get(name);
    return value ? std::string(base::trim(*value)) : std::string(otherwise);
  }
  Result<bool> boolean(std::string_view name, bool otherwise) const {
    const std::string value = base::to_lower(text(name, otherwise ? "true" : "false"));
    if (value == "true" || value == "1" || value == "yes" || value == "on") return true;
    if (value == "false" || value == "0" || value == "no" || value == "off") return false;
    return wrong(name, "must be true or false");
  }
  Result<unsigned> number(std::string_view name, unsigned otherwise, unsigned least, unsigned most) const {
    const auto value = base::parse_unsigned(text(name, std::to_string(otherwise)));
    if (value && *value >= least && *value <= most) return static_cast<unsigned>(*value);
    return wrong(name, "must be a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  }
  Result<SharesDriver::Secure> secure(std::string_view name) const {
    const std::string value = base::to_lower(text(name, "auto"));
    if (value == "true") return SharesDriver::Secure::yes;
    if (value == "false") return SharesDriver::Secure::no;
    if (value == "auto") return SharesDriver::Secure::automatic;
    return wrong(name, "must be true, false or auto");
  }

 private:
  const BackendOptions& options_;
};

Result<double> over_subscription(const Reader& reader) {
  constexpr std::string_view name = "max_over_subscription_ratio";
  const std::string text = reader.text(name, "20.0");
  double ratio = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), ratio);
  if (problem == std::errc() && end == text.data() + text.size() && ratio >= 1) return ratio;
  // "auto" too, which Cinder's NfsDriver refuses.
  return reader.wrong(name, "Cinder's NfsDriver takes a number of at least 1 only");
}

}  // namespace

Result<std::unique_ptr<Driver>> make_nfs_driver(const BackendOptions& options) {
  const Reader reader(options);
  IMAGECACHE_TRY(const bool qcow2, reader.boolean("nfs_qcow2_volumes", false));
  if (qcow2) {
    // Cinder's driver then clones into qcow2 files whatever the source is, and hands on the source's format (its
    // remotefs.py, _create_cloned_volume): a raw volume of ours would have clones that can no longer be extended.
    return reader.wrong("nfs_qcow2_volumes", "volumes of this service are raw files only", Errc::unsupported);
  }
  SharesDriver::Options made;
  made.section = options.section();
  const std::string host = reader.text("nas_host", "");
  const std::string path = reader.text("nas_share_path", "");
  if (!host.empty() && !path.empty()) {
    made.nas = ShareAddress{.address = host + ":" + path};
    if (options.get("nas_mount_options")) made.nas->options = reader.text("nas_mount_options", "");
    if (!is_share_address(made.nas->address)) return reader.wrong("nas_share_path", "must begin with a /");
  }
  made.shares_config = reader.text("nfs_shares_config", "/etc/cinder/nfs_shares");
  made.mount_point_base = reader.text("nfs_mount_point_base", reader.text("state_path", "/var/lib/cinder") + "/mnt");
  if (!made.mount_point_base.is_absolute()) return reader.wrong("nfs_mount_point_base", "must be an absolute path");
  IMAGECACHE_TRY(made.secure_permissions, reader.secure("nas_secure_file_permissions"));
  IMAGECACHE_TRY(made.secure_operations, reader.secure("nas_secure_file_operations"));
  IMAGECACHE_TRY(made.max_over_subscription_ratio, over_subscription(reader));
  IMAGECACHE_TRY(made.reserved_percentage, reader.number("reserved_percentage", 0, 0, 100));
  IMAGECACHE_TRY(made.max_concurrency, reader.number("nfs_max_concurrency", made.max_concurrency, 1, 1024));
  const std::string name = reader.text("volume_name_template", "volume-%s");
  const auto id = name.find("%s");
  if (id == std::string::npos) return reader.wrong("volume_name_template", "must hold %s");
  made.name_before = name.substr(0, id);
  made.name_behind = name.substr(id + 2);
  return std::make_unique<SharesDriver>(std::move(made));
}

}  // namespace imagecache::backends
