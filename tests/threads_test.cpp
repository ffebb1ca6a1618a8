// SPDX-License-Identifier: MIT
// One model, many sessions, each in a thread of its own, and threads that they share: nothing else is shared that
// anybody writes. One generator, many threads. A child of the process goes on with what its parent had.
#include <gtest/gtest.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pith/chat_template.hpp"
#include "pith/generator.hpp"
#include "pith/tokenizer.hpp"
#include "support/batch.hpp"
#include "support/compare.hpp"
#include "support/heard.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

std::vector<Script> scripts_of(const Model& model, std::uint64_t seed) {
  std::vector<Script> scripts;
  for (const std::size_t prompt : {40u, 3u, 25u})
    scripts.push_back({random_tokens(seed + prompt, model.config(), prompt), random_tokens(seed, model.config(), 12)});
  return scripts;
}

std::vector<Played> run(const Model& model, std::uint64_t seed, const prune::AnyPolicy& policy,
                        const Threads& threads) {
  Session session(model, {.policy = policy, .threads = threads, .chunk = 16});
  return play(session, scripts_of(model, seed), DropLog::Keep::counts);
}

void expect_same(const std::vector<Played>& a, const std::vector<Played>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_bits(a[i].logits, b[i].logits)) << "sequence " << i;
}

/// Each policy in a session and a thread of its own, all at once, against the same sessions one after another.
/// threads(): those that one session works in.
template <class F>
void check_sessions_side_by_side(const Model& model, F&& threads) {
  SCOPED_TRACE(describe(model));
  const auto cases = policy_cases();
  std::vector<std::vector<Played>> together(cases.size());
  {
    std::vector<std::jthread> hosts;
    for (std::size_t i = 0; i < cases.size(); ++i)
      hosts.emplace_back([&, i] { together[i] = run(model, i, cases[i].policy, threads()); });
  }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(cases[i].name);
    expect_same(together[i], run(model, i, cases[i].policy, 1));
  }
}

TEST(ThreadsTest, SessionsShareAModel) {
  const auto one = [] { return Threads(1); };
  check_sessions_side_by_side(random_model({.seed = 1, .n_layers = 2}), one);
  check_sessions_side_by_side(random_model({.seed = 2, .format = Format::q8_0, .n_layers = 2}), one);
}

TEST(ThreadsTest, SessionsThatWorkInSeveralThreadsShareAModel) {
  check_sessions_side_by_side(random_model({.seed = 3, .n_layers = 2}), [] { return Threads(2); });
}

TEST(ThreadsTest, SessionsShareAModelAndThreads) {
  check_sessions_side_by_side(random_model({.seed = 8, .n_layers = 2}), [shared = Threads(2)] { return shared; });
}

TEST(ThreadsTest, SessionsShareThreadsForLongPrompts) {
  const Model model = random_model(
      {.seed = 5, .architecture = Architecture::mixtral, .format = Format::q8_0, .n_layers = 2, .context = 512});
  const prune::AnyPolicy policies[] = {prune::none(), prune::keydiff({.rows = 64, .recent = 6}),
                                       prune::criticalkv({.rows = 64, .window = 8}),
                                       prune::curdkv({.rows = 64, .recent = 6})};
  const Threads shared(3);
  std::vector<std::vector<Played>> together(std::size(policies));
  const auto run_with = [&](std::size_t i, const Threads& threads) {
    Session session(model, {.policy = policies[i], .threads = threads, .chunk = 256});
    const Script script{random_tokens(i, model.config(), 300), random_tokens(i, model.config(), 8)};
    return play(session, {script, script}, DropLog::Keep::counts);
  };
  {
    std::vector<std::jthread> hosts;
    for (std::size_t i = 0; i < together.size(); ++i) hosts.emplace_back([&, i] { together[i] = run_with(i, shared); });
  }
  for (std::size_t i = 0; i < together.size(); ++i) expect_same(together[i], run_with(i, 1));
}

TEST(ThreadsTest, ManyUseOneTokenizerAndOneChatTemplate) {
  const std::vector<Message> messages = {{"user", " Who lives in the old house? "}, {"assistant", "Nobody."}};
  const auto use = [&](const Tokenizer& tokenizer, const ChatTemplate& by) {
    auto tokens = tokenizer.encode(by.render(messages), by);
    const auto more = tokenizer.encode(tokenizer.decode(tokens));
    tokens.insert(tokens.end(), more.begin(), more.end());
    return tokens;
  };
  const auto load = [] { return Tokenizer::load(std::filesystem::path(PITH_MODELS_DIR) / "bookworm-1m"); };
  const auto parse = [] {
    return ChatTemplate::parse("{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}\n{% endfor %}");
  };
  const Tokenizer tokenizer = load();
  const ChatTemplate by = parse();  // it is read when it is first used
  std::vector<std::vector<Token>> together(8);
  {
    std::vector<std::jthread> threads;
    for (auto& tokens : together) threads.emplace_back([&] { tokens = use(tokenizer, by); });
  }
  const auto alone = use(load(), parse());
  EXPECT_GT(alone.size(), 20u);
  for (const auto& tokens : together) EXPECT_EQ(tokens, alone);
}

TEST(ThreadsTest, ASessionMovesFromThreadToThread) {
  const Model model = random_model({.seed = 4, .n_layers = 2});
  const auto tokens = random_tokens(4, model.config(), 30);
  const Fed expected = feed(model, tokens, {Feeding::decode});
  std::optional<Session> session(std::in_place, model, SessionOptions{.threads = 1});
  std::optional<SequenceId> sequence;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    std::thread([&] {
      if (sequence) {
        session->push(*sequence, tokens[t]);
      } else {
        sequence = session->add(std::span(tokens).first(1));
      }
      const auto outputs = session->step();
      ASSERT_EQ(outputs.size(), 1u);
      EXPECT_EQ(copy(outputs[0].logits), expected.logits[t]);
    }).join();
  }
}

TEST(ThreadsTest, TheLastSessionMayOutliveEveryHandleOfItsModel) {
  std::vector<std::jthread> threads;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    Session session(random_model({.seed = seed}), {.threads = 1});
    threads.emplace_back([session = std::move(session)]() mutable {
      session.add(random_tokens(1, session.model().config(), 20));
      EXPECT_EQ(session.step().size(), 1u);
    });
  }
}

// --- Generators ------------------------------------------------------------------------------------------------------

Model small_model() {
  return random_model({.seed = 9, .architecture = Architecture::llama, .head_dim = 16, .n_layers = 2, .context = 120});
}

std::size_t bytes_of(const Model& model, std::size_t tokens) {
  Session session(model, {.policy = prune::none(), .threads = 1, .context = 1000});
  const SequenceId sequence = session.add(random_tokens(1, model.config(), tokens));
  session.step();
  return session.stats(sequence).bytes_used;
}

SessionOptions dense(const Threads& threads) { return {.policy = prune::none(), .threads = threads, .chunk = 16}; }

TEST(ThreadsTest, ManyGenerateTogether) {
  const Model model = small_model();
  constexpr std::size_t hosts = 4, each = 4;
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < hosts * each; ++i)
    requests.push_back(
        {.prompt = random_tokens(i, model.config(), 3 + 4 * i), .max_tokens = 12, .sampler = {.seed = i}});
  const auto gated = [](int threads) { return SessionOptions{.threads = threads}; };
  Generator generator(model, std::nullopt, gated(2), 3);
  std::vector<Generation> got(requests.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t host = 0; host < hosts; ++host)
      threads.emplace_back([&, host] {
        for (std::size_t i = host * each; i < (host + 1) * each; ++i) got[i] = generator.generate(requests[i]);
      });
  }
  EXPECT_EQ(generator.pending(), 0u);
  Generator alone(model, std::nullopt, gated(1));
  for (std::size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(got[i].tokens, alone.generate(requests[i]).tokens) << i;
}

TEST(ThreadsTest, OneServesManyThatComeAndGo) {
  const Model model = small_model();
  constexpr std::size_t hosts = 4, each = 6;
  std::vector<Asked> asked;
  for (std::uint64_t i = 0; i < hosts * each; ++i)
    asked.push_back(
        {{.prompt = random_tokens(i, model.config(), 5 + 3 * i), .max_tokens = 15, .sampler = {.seed = i}}});
  SessionOptions little_room = dense(2);
  little_room.kv_budget = bytes_of(model, 240);
  Generator generator(model, std::nullopt, little_room, 5);
  std::atomic<std::size_t> ended{0};
  {
    std::jthread server([&](const std::stop_token& stop) { generator.serve(stop); });
    {
      std::vector<std::jthread> clients;
      for (std::size_t host = 0; host < hosts; ++host)
        clients.emplace_back([&, host] {
          for (std::size_t i = host * each; i < (host + 1) * each; ++i) {
            Request request = asked[i].listened();
            request.on_piece = [&, hear = std::move(request.on_piece)](const Piece& piece) {
              hear(piece);
              if (piece.finish) ++ended;
            };
            const RequestId id = generator.submit(std::move(request));
            if (i % 5 == 4) generator.cancel(id);
            if (i % 3 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
          }
        });
    }
    while (ended < asked.size()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    server.request_stop();
  }
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const Heard& heard = *asked[i].heard;
    EXPECT_TRUE(as_alone(model, dense(1), std::span(&asked[i], 1))) << i;
    EXPECT_TRUE(heard.finish != Finish::error && (i % 5 == 4 || heard.finish != Finish::cancelled)) << i;
    EXPECT_EQ(heard.after_the_end, 0) << i;
  }
}

// What any thread may do, done by eight, while a ninth steps, in two threads, and a tenth looks on; one conversation of
// each is what it is alone.
TEST(ThreadsTest, EightDoAllThatAnyThreadMay) {
  const Model model = small_model();
  constexpr std::size_t hosts = 8, turns = 3;
  const auto turn = [&](std::size_t host, std::size_t i) {
    return Request{.prompt = random_tokens(10 * host + i, model.config(), 6 + host),
                   .max_tokens = 5,
                   .ends = std::vector<Token>{},
                   .sampler = {.seed = host + i}};
  };
  const Replay replay{.share = 0.7f, .all = random_tokens(1, model.config(), 3)};
  const auto folder = std::filesystem::path(::testing::TempDir());
  std::vector<std::vector<Token>> said(hosts);
  {
    Generator generator(model, std::nullopt, dense(2), 5, {.bytes = bytes_of(model, 200)});
    std::jthread server([&](const std::stop_token& stop) { generator.serve(stop); });
    std::jthread watcher([&](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        EXPECT_LE(generator.load().running, 5u);
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    });
    std::vector<std::jthread> threads;
    for (std::size_t host = 0; host < hosts; ++host)
      threads.emplace_back([&, host] {
        ConversationId talk = generator.open();
        for (std::size_t i = 0; i < turns; ++i) {
          generator.cancel(generator.submit({.prompt = random_tokens(host, model.config(), 20), .max_tokens = 50}));
          Request request = turn(host, i);
          request.conversation = talk;
          const Generation g = generator.generate(std::move(request));
          said[host].insert(said[host].end(), g.tokens.begin(), g.tokens.end());
          EXPECT_GE(generator.length(talk), 5 * (i + 1) - 1);
          EXPECT_LE(generator.pending(), 2 * hosts);
          generator.compress(talk, replay);
          const auto file = folder / ("pith-threads-" + std::to_string(getpid()) + "-" + std::to_string(host));
          generator.save(talk, file);
          generator.close(std::exchange(talk, generator.restore(file).first));
          std::filesystem::remove(file);
          if (i == 1) generator.drop_prefixes();
        }
        generator.close(talk);
      });
  }
  for (std::size_t host = 0; host < hosts; ++host) {
    Generator generator(model, std::nullopt, dense(1));
    const ConversationId talk = generator.open();
    std::vector<Token> expected;
    for (std::size_t i = 0; i < turns; ++i) {
      Request request = turn(host, i);
      request.conversation = talk;
      const Generation g = generator.generate(std::move(request));
      expected.insert(expected.end(), g.tokens.begin(), g.tokens.end());
      generator.compress(talk, replay);
    }
    EXPECT_EQ(said[host], expected) << host;
  }
}

TEST(ThreadsTest, OneServesNobodyWithoutHaste) {
  Generator generator(small_model(), std::nullopt, dense(1));
  std::jthread server([&](const std::stop_token& stop) { generator.serve(stop); });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const Generation g = generator.generate({.prompt = std::vector<Token>{1, 2, 3}, .max_tokens = 5});
  EXPECT_LE(g.tokens.size(), 5u);
}

// --- Processes and signals -------------------------------------------------------------------------------------------

Script long_script(const Model& model) {
  return {random_tokens(1, model.config(), 200), random_tokens(2, model.config(), 6)};
}

/// Of a session with these threads: a long prompt, and some tokens.
Played play_with(const Model& model, const Threads& threads) {
  Session session(model, {.policy = prune::h2o({.rows = 64, .recent = 9}), .threads = threads, .chunk = 64});
  return play(session, {long_script(model)}, DropLog::Keep::counts)[0];
}

/// What `f` says in a child of this process, which has half a minute.
template <class F>
bool in_a_child(F&& f) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    _exit(f() ? 0 : 1);
  }
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(ThreadsTest, AChildGoesOnWithWhatItsParentHad) {
  const Model model = random_model({.seed = 6, .head_dim = 64, .n_layers = 2, .context = 512});
  const Threads shared(2);
  Session session(model, {.threads = shared, .chunk = 64, .record_drops = true});
  const Script script = long_script(model);
  const SequenceId id = session.add(script.prompt);
  session.step();  // the parent's threads are there now
  const Logits2d expected = play_with(model, 1).logits;
  const auto go_on = [&] {
    Logits2d logits;
    session.push(id, script.rest, Logits::all);
    step_into(session, id, logits);
    return logits;
  };
  const SequenceId twin = session.fork(id);
  Logits2d own;
  session.push(twin, script.rest, Logits::all);
  step_into(session, twin, own);
  EXPECT_TRUE(in_a_child([&] { return same_bits(go_on(), own); })) << "its parent's session";
  EXPECT_TRUE(in_a_child([&] { return same_bits(play_with(model, shared).logits, expected); }))
      << "its parent's threads";
  EXPECT_TRUE(in_a_child([&] { return same_bits(play_with(model, 2).logits, expected); })) << "threads of its own";
  EXPECT_TRUE(same_bits(go_on(), own)) << "the parent";
}

TEST(ThreadsTest, SignalsThatTheHostHandlesChangeNothing) {
  const Model model = random_model({.seed = 7, .n_layers = 2, .context = 512});
  const Played calm = play_with(model, 1);
  static std::atomic<int> heard = 0;  // whichever thread hears the signal
  struct sigaction handles = {}, before = {};
  handles.sa_handler = [](int) { ++heard; };  // without SA_RESTART
  ASSERT_EQ(sigaction(SIGALRM, &handles, &before), 0);
  const itimerval often = {{0, 200}, {0, 200}}, never_again = {};
  ASSERT_EQ(setitimer(ITIMER_REAL, &often, nullptr), 0);
  for (int i = 0; i < 50 && heard < 5; ++i) {
    EXPECT_TRUE(same_bits(play_with(model, 2).logits, calm.logits));
    Session session(model, {.policy = prune::none(), .threads = 1});
    const SequenceId id = session.add(random_tokens(3, model.config(), 50));
    session.step();
    const auto file = std::filesystem::path(::testing::TempDir()) / ("pith-signals-" + std::to_string(getpid()));
    session.save(id, file);
    EXPECT_EQ(session.length(session.restore(file).sequence), 50u);
    std::filesystem::remove(file);
  }
  setitimer(ITIMER_REAL, &never_again, nullptr);
  sigaction(SIGALRM, &before, nullptr);
  EXPECT_GE(heard, 5);
}

}  // namespace
}  // namespace pith::testing
