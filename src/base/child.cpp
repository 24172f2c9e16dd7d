#include "base/child.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <thread>

#include "base/fd.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::base {
namespace {

using Clock = std::chrono::steady_clock;

// Daemons are often started with a PATH that lacks the sbin directories.
constexpr std::string_view more_directories = ":/usr/sbin:/sbin";

Result<std::string> find_program(const std::string& program) {
  const auto missing = [&] { return fail(Errc::not_found, program + ": no such program"); };
  if (program.find('/') != program.npos) {
    if (::access(program.c_str(), X_OK) == 0) return program;
    return missing();
  }
  const char* const path = std::getenv("PATH");
  const std::string directories = std::string(path ? path : "/usr/bin:/bin") + std::string(more_directories);
  for (const std::string& directory : split(directories, ':')) {
    std::string candidate = directory + "/" + program;
    if (!directory.empty() && ::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return missing();
}

void limit(decltype(RLIMIT_CPU) resource, std::uint64_t value) {
  const struct rlimit both{value, value};
  ::setrlimit(resource, &both);
}

// Between fork and exec in a process with threads: nothing here may allocate or take a lock.
[[noreturn]] void become(const ChildSpec& spec, const char* path, char* const* arguments, char* const* environment,
                         const std::vector<int>& high, int output, int errors, int null, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, spec.end == ChildEnd::kill ? SIGKILL : SIGTERM);
  if (::getppid() != parent) ::_exit(126);  // The parent went before the line above.
  if (!spec.may_gain_privileges) ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGPIPE, SIGXFSZ, SIGXCPU, SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::signal(number, SIG_DFL);
  ::dup2(null, 0);
  ::dup2(output, 1);
  ::dup2(errors, 2);
  int next = 3;
  for (const int fd : high) ::dup2(fd, next++);
  ::close_range(static_cast<unsigned>(next), ~0U, 0);
  limit(RLIMIT_CORE, 0);
  if (spec.cpu_limit_s != 0) limit(RLIMIT_CPU, spec.cpu_limit_s);
  if (spec.address_space_limit_bytes != 0) limit(RLIMIT_AS, spec.address_space_limit_bytes);
  if (spec.file_size_limit_bytes != 0) limit(RLIMIT_FSIZE, spec.file_size_limit_bytes);
  ::execve(path, arguments, environment);
  ::_exit(127);
}

// Ends and reaps what is still there when it goes.
class Child {
 public:
  Child(pid_t pid, const ChildSpec& spec) : pid_(pid), spec_(spec) { ::setpgid(pid, pid); }
  ~Child() {
    if (pid_ < 0) return;
    if (spec_.end == ChildEnd::kill) {
      ::kill(-pid_, SIGKILL);
      ::kill(pid_, SIGKILL);
      wait();
    } else {
      // Somebody has to take its exit status when it comes to an end after all.
      std::thread([pid = pid_, held = spec_.held] { reap(pid); }).detach();
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// `ended` is its pidfd. True if it has ended.
  bool ask_to_end(int ended) const {
    if (spec_.end != ChildEnd::ask) return false;
    ::kill(-pid_, SIGTERM);  // not allowed where it runs as somebody else: then it is waited for all the same
    struct pollfd wait{ended, POLLIN, 0};
    const auto until = Clock::now() + spec_.ask_grace;
    for (;;) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
      if (left <= 0) return false;
      if (::poll(&wait, 1, static_cast<int>(std::min<std::int64_t>(left, 3'600'000))) > 0) return true;
    }
  }
  int wait() {
    const int status = reap(pid_);
    pid_ = -1;
    return status;
  }

 private:
  static int reap(pid_t pid) {
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
  }

  pid_t pid_;
  const ChildSpec& spec_;
};

// One end of a pipe, and what came out of it. Keeps the beginning and drops the rest, so that a child that talks
// without end still ends.
class Output {
 public:
  Output(std::string& text, std::size_t limit_bytes) : text_(text), limit_bytes_(limit_bytes) {}

  /// The child's end, above the numbers that it will have.
  Result<Fd> open(const ChildSpec& spec, int above) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(spec.program, errno);
    ours_ = Fd(ends[0]);
    const Fd low(ends[1]);
    ::fcntl(ours_.get(), F_SETFL, O_NONBLOCK);
    Fd theirs(::fcntl(low.get(), F_DUPFD_CLOEXEC, above));
    if (!theirs) return fail_errno(spec.program, errno);
    return theirs;
  }
  int fd() const { return ours_.get(); }
  /// What is there now, at most about a pipe full. At the pipe's end it is closed.
  /// True if there was something.
  bool drain() {
    bool came = false;
    std::array<char, 16384> buffer{};
    for (int i = 0; ours_ && i < 64; ++i) {
      const ssize_t n = ::read(ours_.get(), buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) return came;
      if (n <= 0) {
        ours_.reset();
        return came;
      }
      came = true;
      text_.append(buffer.data(), std::min(static_cast<std::size_t>(n), limit_bytes_ - text_.size()));
      if (static_cast<std::size_t>(n) < buffer.size()) break;
    }
    return came;
  }

 private:
  std::string& text_;
  const std::size_t limit_bytes_;
  Fd ours_;
};

std::vector<char*> as_argv(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

Result<ChildResult> run_child(const ChildSpec& spec, std::stop_token stop) {
  IMAGECACHE_TRY(const std::string path, find_program(spec.program));
  std::vector<std::string> words = {spec.program};
  words.insert(words.end(), spec.arguments.begin(), spec.arguments.end());
  std::vector<std::string> settings = spec.environment;
  settings.emplace_back("LC_ALL=C");
  const std::vector<char*> arguments = as_argv(words);
  const std::vector<char*> environment = as_argv(settings);

  // The child's numbers 0, 1, 2, 3… are made by dup2, so its sources must lie above all of them.
  const int above = 3 + static_cast<int>(spec.descriptors.size());
  ChildResult result;
  Output output(result.output, spec.output_limit_bytes);
  Output errors(result.errors, spec.output_limit_bytes);
  IMAGECACHE_TRY(Fd child_output, output.open(spec, above));
  IMAGECACHE_TRY(Fd child_errors, errors.open(spec, above));
  IMAGECACHE_TRY(const Fd low_null, open_file("/dev/null", O_RDONLY));
  const Fd null(::fcntl(low_null.get(), F_DUPFD_CLOEXEC, above));
  const Fd stopped(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!null || !stopped) return fail_errno(spec.program, errno);
  std::vector<Fd> owned;
  std::vector<int> high;
  for (const int fd : spec.descriptors) {
    owned.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, above));
    if (!owned.back()) return fail_errno(spec.program, errno);
    high.push_back(owned.back().get());
  }

  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno(spec.program + ": cannot be started", errno);
  if (pid == 0) {
    become(spec, path.c_str(), arguments.data(), environment.data(), high, child_output.get(), child_errors.get(),
           null.get(), parent);
  }
  Child child(pid, spec);
  child_output.reset();
  child_errors.reset();
  // Not pidfd_open(): the header of glibc 2.36 cannot be used from C++.
  const Fd ended(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!ended) return fail_errno(spec.program + ": cannot be watched", errno);

  const std::stop_callback on_stop(stop, [&stopped] {
    const std::uint64_t one = 1;
    static_cast<void>(::write(stopped.get(), &one, sizeof one));
  });
  const auto deadline = Clock::now() + spec.timeout;
  const bool must_talk = spec.silence_timeout.count() > 0;
  auto silent_until = Clock::now() + spec.silence_timeout;
  const auto give_up = [&](Errc code, const std::string& why) {
    if (spec.end == ChildEnd::kill) return fail(code, spec.program + ": was killed, " + why);
    if (child.ask_to_end(ended.get())) {
      child.wait();
      return fail(code, spec.program + ": was ended, " + why);
    }
    return fail(code, spec.program + ": does not end, and is left to itself; " + why);
  };
  for (;;) {
    const auto now = Clock::now();
    if (deadline <= now) return give_up(Errc::timeout, "it took too long");
    if (must_talk && silent_until <= now) return give_up(Errc::timeout, "it did not get on");
    const auto until = must_talk ? std::min(deadline, silent_until) : deadline;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - now).count();
    std::array<struct pollfd, 4> wait = {
        {{ended.get(), POLLIN, 0}, {stopped.get(), POLLIN, 0}, {output.fd(), POLLIN, 0}, {errors.fd(), POLLIN, 0}}};
    const int ready = ::poll(wait.data(), wait.size(), static_cast<int>(std::min<std::int64_t>(left, 3'600'000)));
    if (ready < 0 && errno != EINTR) return fail_errno(spec.program, errno);
    if (ready <= 0) continue;
    if (wait[1].revents != 0) return give_up(Errc::cancelled, "it was called off");
    const bool spoke = wait[2].revents != 0 && output.drain();
    if ((wait[3].revents != 0 && errors.drain()) || spoke) silent_until = Clock::now() + spec.silence_timeout;
    if (wait[0].revents != 0) break;
  }
  const int status = child.wait();
  // A grandchild may hold the pipe and go on talking: what is there now is all that is waited for.
  output.drain();
  errors.drain();
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  if (WIFEXITED(status)) result.exit_status = WEXITSTATUS(status);
  return result;
}

}  // namespace imagecache::base
