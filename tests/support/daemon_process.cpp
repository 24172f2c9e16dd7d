#include "support/daemon_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "base/text.hpp"

namespace imagecache::test {
namespace {

constexpr std::chrono::seconds start_limit{120};

/// The port behind `label` in a line such as "… image API 127.0.0.1:34567, volume API …".
std::uint16_t port_after(std::string_view line, std::string_view label) {
  const auto at = line.find(label);
  if (at == std::string_view::npos) return 0;
  std::string_view address = line.substr(at + label.size());
  address = address.substr(0, address.find(','));
  const auto port = base::parse_unsigned(base::trim(address.substr(address.rfind(':') + 1)));
  return port ? static_cast<std::uint16_t>(*port) : std::uint16_t{0};
}

bool wait_readable(int fd, std::chrono::milliseconds limit) {
  pollfd what{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&what, 1, static_cast<int>(limit.count())) == 1;
}

}  // namespace

DaemonProcess::DaemonProcess(const std::filesystem::path& executable, const std::filesystem::path& config,
                             const std::vector<std::string>& environment) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) std::abort();
  output_ = base::Fd(ends[0]);
  const base::Fd input(ends[1]);

  std::vector<std::string> words = {executable.native(), "serve", "--config-file", config.native()};
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  std::vector<std::string> added = environment;
  std::vector<char*> variables;
  for (auto& variable : added) variables.push_back(variable.data());
  for (char** inherited = ::environ; *inherited != nullptr; ++inherited) variables.push_back(*inherited);
  variables.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, input.get(), STDERR_FILENO);
  const int failure = ::posix_spawn(&pid_, executable.c_str(), &actions, nullptr, arguments.data(), variables.data());
  ::posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) {
    log_ = executable.native() + ": cannot be started: " + std::to_string(failure);
    ended_ = -1;
    return;
  }
  process_ = base::Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  if (!process_) std::abort();
  reader_ = std::jthread([this] { read_log(); });
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, start_limit, [this] { return served_ || silent_; });
}

DaemonProcess::~DaemonProcess() {
  kill();
}

void DaemonProcess::read_log() {
  ::fcntl(output_.get(), F_SETFL, O_NONBLOCK);
  for (bool alive = true; alive;) {
    std::array<pollfd, 2> wanted{pollfd{.fd = output_.get(), .events = POLLIN, .revents = 0},
                                 pollfd{.fd = process_.get(), .events = POLLIN, .revents = 0}};
    if (::poll(wanted.data(), wanted.size(), -1) < 0 && errno != EINTR) break;
    // What it wrote before it ended is in the pipe by now.
    alive = wanted[1].revents == 0;
    std::array<char, 4096> part{};
    for (;;) {
      const ssize_t n = ::read(output_.get(), part.data(), part.size());
      if (n <= 0) {
        if (n == 0 && alive) alive = !wait_readable(process_.get(), std::chrono::minutes(1));
        break;
      }
      const std::lock_guard lock(mutex_);
      log_.append(part.data(), static_cast<std::size_t>(n));
      note_ports();
    }
    changed_.notify_all();
  }
  const std::lock_guard lock(mutex_);
  silent_ = true;
  changed_.notify_all();
}

void DaemonProcess::note_ports() {
  if (served_) return;
  const auto at = log_.find(" is serving: ");
  if (at == std::string::npos || log_.find('\n', at) == std::string::npos) return;
  const std::string_view line = std::string_view(log_).substr(at, log_.find('\n', at) - at);
  ports_ = {.image_api = port_after(line, "image API "),
            .volume_api = port_after(line, "volume API "),
            .status = port_after(line, "status ")};
  served_ = true;
}

bool DaemonProcess::has_served() const {
  const std::lock_guard lock(mutex_);
  return served_;
}

DaemonProcess::Ports DaemonProcess::ports() const {
  const std::lock_guard lock(mutex_);
  return ports_;
}

std::string DaemonProcess::log() const {
  const std::lock_guard lock(mutex_);
  return log_;
}

void DaemonProcess::kill() {
  if (ended_) return;
  ::kill(pid_, SIGKILL);
  static_cast<void>(wait());
}

std::optional<int> DaemonProcess::terminate(std::chrono::seconds limit) {
  if (!ended_) ::kill(pid_, SIGTERM);
  return wait(limit);
}

std::optional<int> DaemonProcess::wait(std::chrono::seconds limit) {
  if (ended_) return ended_;
  if (!wait_readable(process_.get(), limit)) return std::nullopt;
  int status = 0;
  if (::waitpid(pid_, &status, 0) != pid_) return std::nullopt;
  ended_ = status;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return silent_; });
  return ended_;
}

}  // namespace imagecache::test
