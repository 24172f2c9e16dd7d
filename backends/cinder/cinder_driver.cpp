#include "backends/cinder/cinder_driver.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/curl.hpp"
#include "base/fd.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

using nlohmann::json;

constexpr std::size_t max_answer_bytes = 1 << 20;
constexpr long connect_timeout_s = 10;

/// What libcurl hands to us and asks us, on the caller's thread.
struct Transfer {
  std::string answer{};
  std::stop_token stop{};

  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self) noexcept {
    auto& answer = static_cast<Transfer*>(self)->answer;
    if (answer.size() + size * count > max_answer_bytes) return 0;
    answer.append(data, size * count);
    return size * count;
  }
  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) noexcept {
    return static_cast<Transfer*>(self)->stop.stop_requested() ? 1 : 0;
  }
};

/// The kinds of failure that cinder_image_cache.generic tells apart.
Errc errc_named(std::string_view name) {
  for (const Errc code : {Errc::invalid_argument, Errc::not_found, Errc::already_exists, Errc::conflict, Errc::corrupt,
                          Errc::no_space, Errc::busy, Errc::unsupported}) {
    if (to_string(code) == name) return code;
  }
  return Errc::internal;
}

}  // namespace

Capabilities CinderDriver::capabilities() const {
  // Whether it copies or shares is known to Cinder's driver alone.
  return {.clone = CloneSupport::copy_on_write, .max_concurrency = options_.max_concurrency, .can_read_volumes = false};
}

std::filesystem::path CinderDriver::image_path(const VolumeId& volume) const {
  return options_.directory / (options_.section + "-" + volume.name + ".raw");
}

Result<void> CinderDriver::check_for_setup_error() {
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(options_.directory, failure)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(options_.section + "-") && name.ends_with(".raw"))
      IMAGECACHE_CHECK(base::remove_file(entry.path()));
  }
  if (!failure) return {};
  return fail(base::errc_of(failure.value()),
              "[" + options_.section + "] image_cache_driver_dir = " + options_.directory.native() + ": " +
                  failure.message() + "; make it, for the groups of cinder-volume and of this service");
}

Result<VolumeStats> CinderDriver::get_volume_stats() {
  IMAGECACHE_TRY(const json stats, call("stats", json::object()));
  return VolumeStats{.total_bytes = stats.value("total_bytes", std::uint64_t{0}),
                     .free_bytes = stats.value("free_bytes", std::uint64_t{0})};
}

Result<std::vector<VolumeId>> CinderDriver::list_volumes() {
  return fail(Errc::unsupported, "[" + options_.section + "]: Cinder's driver cannot list its volumes");
}

Result<void> CinderDriver::create_volume(const VolumeId& volume, std::uint64_t size_bytes) {
  return change("create_volume", {{"volume", volume.name}, {"size_bytes", size_bytes}});
}

Result<void> CinderDriver::copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) {
  const auto path = image_path(volume);
  const auto copy = [&]() -> Result<void> {
    IMAGECACHE_TRY(const base::Fd file, base::open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0660));
    if (::ftruncate(file.get(), static_cast<off_t>(image.virtual_size_bytes())) != 0)
      return base::fail_errno(path.native(), errno);
    const auto write = [&](std::uint64_t offset_bytes, std::span<const std::byte> data) {
      return base::write_all_at(file.get(), data, offset_bytes, path.native());
    };
    IMAGECACHE_CHECK(image.for_each_data(write, stop));
    return change("copy_image_to_volume", {{"volume", volume.name}, {"path", path.native()}}, stop);
  };
  Result<void> copied = copy();
  Result<void> removed = base::remove_file(path);
  if (!copied) return copied;
  return removed;
}

Result<void> CinderDriver::seal(const VolumeId& volume) {
  return change("seal", {{"volume", volume.name}});
}

Result<void> CinderDriver::create_cloned_volume(const CloneSpec& clone) {
  return change("create_cloned_volume",
                {{"volume", clone.target.name}, {"source", clone.source.name}, {"size_bytes", clone.size_bytes}});
}

Result<void> CinderDriver::extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) {
  static_cast<void>(new_size_bytes);
  return fail(Errc::unsupported, volume.name + ": volumes of [" + options_.section + "] are extended through Cinder");
}

Result<void> CinderDriver::delete_volume(const VolumeId& volume) {
  return change("delete_volume", {{"volume", volume.name}});
}

Result<ConnectionInfo> CinderDriver::initialize_connection(const VolumeId& volume) {
  return fail(Errc::unsupported, volume.name + ": volumes of [" + options_.section + "] are attached through Cinder");
}

Result<void> CinderDriver::change(std::string_view verb, const json& body, std::stop_token stop) const {
  IMAGECACHE_TRY(const json done, call(verb, body, std::move(stop)));
  static_cast<void>(done);
  return {};
}

Result<json> CinderDriver::call(std::string_view verb, const json& body, std::stop_token stop) const {
  const std::string socket = options_.directory / (options_.section + ".sock");
  const base::CurlEasy easy(curl_easy_init());
  base::CurlList headers;
  if (!easy || !base::append(headers, "Content-Type: application/json")) return fail(Errc::internal, "out of memory");
  const std::string url = "http://cinder-volume/" + std::string(verb);
  const std::string text = body.dump();
  Transfer transfer{.stop = std::move(stop)};
  base::set_caution(easy.get());
  curl_easy_setopt(easy.get(), CURLOPT_UNIX_SOCKET_PATH, socket.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDS, text.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_CONNECTTIMEOUT, connect_timeout_s);
  curl_easy_setopt(easy.get(), CURLOPT_TIMEOUT, static_cast<long>(options_.timeout.count()));
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, &Transfer::on_body);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(easy.get(), CURLOPT_XFERINFOFUNCTION, &Transfer::on_progress);
  curl_easy_setopt(easy.get(), CURLOPT_XFERINFODATA, &transfer);
  curl_easy_setopt(easy.get(), CURLOPT_NOPROGRESS, 0L);
  const CURLcode result = curl_easy_perform(easy.get());
  const std::string what = body.value("volume", options_.section) + ": " + std::string(verb) + " by cinder-volume";
  if (result == CURLE_ABORTED_BY_CALLBACK) return fail(Errc::cancelled, what + ": it was called off");
  if (result == CURLE_OPERATION_TIMEDOUT) return fail(Errc::timeout, what + " (" + socket + "): no answer in time");
  if (result != CURLE_OK) {
    return fail(Errc::unavailable, what + " (" + socket + "): " + curl_easy_strerror(result) +
                                       "; is it running, with volume_driver = cinder_image_cache.generic.driver?");
  }
  long status = 0;
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
  json answer = json::parse(transfer.answer, nullptr, false);
  if (status == 200 && answer.is_object()) return answer;
  if (!answer.is_object() || !answer.contains("error") || !answer["error"].is_object())
    return fail(Errc::internal, what + ": an answer that is none (status " + std::to_string(status) + ")");
  const json& error = answer["error"];
  const auto word = [&](const char* key) {
    const auto found = error.find(key);
    return found != error.end() && found->is_string() ? found->get<std::string>() : std::string("no reason given");
  };
  return fail(errc_named(word("code")), what + ": " + word("message"));
}

Result<std::unique_ptr<Driver>> make_cinder_driver(const BackendOptions& options) {
  const auto number = [&](std::string_view name, std::uint64_t otherwise, std::uint64_t most) -> Result<std::uint64_t> {
    const auto text = options.get(name);
    if (!text) return otherwise;
    const auto value = base::parse_unsigned(base::trim(*text));
    if (!value || *value == 0 || *value > most) {
      return fail(Errc::invalid_argument, "[" + options.section() + "] " + std::string(name) + " = " + *text +
                                              ": must be a whole number from 1 to " + std::to_string(most));
    }
    return *value;
  };
  const auto directory = options.get("image_cache_driver_dir");
  if (!directory || !directory->starts_with('/')) {
    return fail(Errc::invalid_argument, "[" + options.section() +
                                            "] image_cache_driver_dir must be set to a directory that cinder-volume "
                                            "and this service share");
  }
  IMAGECACHE_TRY(const std::uint64_t concurrency, number("image_cache_driver_max_concurrency", 8, 256));
  IMAGECACHE_TRY(const std::uint64_t timeout_s, number("image_cache_driver_timeout", 3600, 86400));
  return std::make_unique<CinderDriver>(CinderDriver::Options{.section = options.section(),
                                                              .directory = *directory,
                                                              .max_concurrency = static_cast<unsigned>(concurrency),
                                                              .timeout = std::chrono::seconds(timeout_s)});
}

}  // namespace imagecache::backends
