//! The words of the stepper, and the sentences of the steps.

use serde::Serialize;

/// A table of texts, each in English and in Chinese. `{name}` stands for a value.
macro_rules! texts {
    ($(#[$about:meta])* $table:ident { $($text:ident: $english:literal / $chinese:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Serialize)]
        pub struct $table { $(pub $text: &'static str,)+ }

        impl $table {
            pub const ENGLISH: Self = Self { $($text: $english,)+ };
            pub const CHINESE: Self = Self { $($text: $chinese,)+ };
        }
    };
}
pub(crate) use texts;

/// A language in which recordings are told.
pub struct Language {
    pub sentences: Sentences,
    /// What to look for in each scene: a page of Markdown.
    pub captions: &'static str,
    /// The names of the clients: in the scenes, and in this language.
    names: &'static [(&'static str, &'static str)],
}

pub const ENGLISH: Language =
    Language { sentences: Sentences::ENGLISH, captions: include_str!("../../scenes.md"), names: &[] };
pub const CHINESE: Language = Language {
    sentences: Sentences::CHINESE,
    captions: include_str!("../../scenes.zh-CN.md"),
    names: &[
        ("newcomer", "新客户端"),
        ("session", "老客户端"),
        ("the backend", "后端"),
        ("the client", "客户端"),
        ("the first client", "第一个客户端"),
        ("the flood", "洪水"),
        ("the idle client", "空闲的客户端"),
        ("the other client", "另一个客户端"),
        ("the refused client", "被拒绝的客户端"),
        ("the resetting client", "重置的客户端"),
        ("the second client", "第二个客户端"),
        ("the silent client", "沉默的客户端"),
        ("the silent reader", "不读的客户端"),
        ("the slow reader", "慢读客户端"),
        ("the typing client", "打字的客户端"),
        ("the waiting client", "等待的客户端"),
    ],
};

impl Language {
    /// The name of a client: `newcomer 3`, for example.
    pub fn name(&self, name: &str) -> String {
        self.names.iter().fold(name.to_owned(), |name, (own, translated)| name.replace(own, translated))
    }
}

/// A template with its values. In Chinese, a space stands between a Chinese word and a Latin one.
pub fn fill(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut filled = String::new();
    let mut push = |part: &str| {
        let is_han = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
        let is_joint = |(before, after): (char, char)| {
            is_han(before) && after.is_ascii_alphanumeric() || before.is_ascii_alphanumeric() && is_han(after)
        };
        if filled.chars().next_back().zip(part.chars().next()).is_some_and(is_joint) {
            filled.push(' ');
        }
        filled.push_str(part);
    };
    for part in template.split('{') {
        let (name, rest) = part.split_once('}').unwrap_or(("", part));
        if !name.is_empty() {
            push(&value(name));
        }
        push(rest);
    }
    filled
}

texts! {
    /// The words of stepper.html and stepper.js.
    Texts {
        answer: "show it ▶" / "看答案 ▶",
        back: "◀ step" / "◀ 上一步",
        back_key: "Left arrow" / "左方向键",
        comma: ", " / "，",
        controls: "Steps of the recording" / "录像的各步",
        dropped: "The recording was full: {count} older events were dropped."
            / "录像已满：丢掉了较早的 {count} 个事件。",
        following: "following (click to stop)" / "跟随中（点击停止）",
        forward: "step ▶" / "下一步 ▶",
        forward_key: "Right arrow" / "右方向键",
        hidden: "sessions that are not shown: {count}" / "未显示的会话：{count}",
        high_water: "high water" / "高水位",
        iteration: "next iteration ▶▶" / "下一次迭代 ▶▶",
        iteration_key: "Shift and right arrow" / "Shift 加右方向键",
        key: "key {key}" / "键 {key}",
        keys: "← → step · Shift ← → iteration · m next moment · Home End · + − zoom · q quiz · / session · 1–6 switch the kinds below"
            / "← → 一步 · Shift ← → 一次迭代 · m 下一个看点 · Home End · + − 缩放 · q 问答 · / 会话 · 1–6 开关下面的种类",
        moment: "next moment ▶▶" / "下一个看点 ▶▶",
        moments: "Moments to look at" / "看点",
        more: "Keys and filters" / "按键与筛选",
        not_read: "not read" / "不读",
        pending: "pending {bytes} B" / "待发 {bytes} B",
        picture: "The steps around this one, as a picture. The sentence above tells the step."
            / "图中是这一步和它前后的各步。上面的句子说的就是这一步。",
        place: "Step {step} of {count}, iteration {iteration}, {time} ms"
            / "第 {step} 步，共 {count} 步，第 {iteration} 次迭代，{time} ms",
        question: "What happens now? Press → to see it." / "接下来会发生什么？按 → 看答案。",
        quiz_off: "quiz: off" / "问答：关",
        quiz_on: "quiz: on" / "问答：开",
        rule: "NOTES.md, rule {rule}" / "规则 {rule}",
        session: "session" / "会话",
        session_hint: "name or address" / "名字或地址",
        step: "step {step}" / "第 {step} 步",
        stops: "arrow keys stop at" / "方向键停在",
        the_loop: "the loop" / "循环",
        waits: ", waits {time} ms" / "，等待 {time} ms",

        // The kinds of step that the reader filters by.
        calls: "calls" / "调用",
        events: "events" / "事件",
        interest: "interest" / "关注",
        states: "states" / "状态",
        timeouts: "time-outs" / "超时",
        accepting: "accept" / "接受连接",

        // The kinds of step that are named in the picture.
        short_accept: "accept" / "接受",
        short_batch: "events" / "事件",
        short_drain: "drain" / "排空",
        short_event: "event" / "事件",
        short_open: "accept" / "接受",
        short_pause: "pause" / "暂停",
        short_poll: "poll" / "poll",
        short_rearm: "re-arm" / "重新注册",
        short_refuse: "refuse" / "拒绝",
        short_request: "request" / "要求",
        short_timeout: "time-out" / "超时",
    }
}

texts! {
    /// The sentences of the steps. Some are two halves: the second one has the first word of
    /// the other in its name.
    Sentences {
        // The loop, in the order of an iteration. `{s}` is an English plural.
        poll_waits: "The loop calls poll and waits until the kernel reports an event."
            / "循环调用 poll，一直等到内核报告事件。",
        poll_waits_for: "The loop calls poll and waits for an event, at most {time}."
            / "循环调用 poll，等待事件，最多等 {time}。",
        poll_looks: "The loop calls poll and does not wait: it has something to do."
            / "循环调用 poll，但不等待：它还有事要做。",
        poll_judges: "The loop calls poll and does not wait: the {timer} of {name} is over."
            / "循环调用 poll，但不等待：{name}的{timer}到了。",
        poll_returns: "poll returns after {time} with {count} event{s}."
            / "{time} 之后，poll 返回 {count} 个事件。",
        listener_ready: "The kernel reports that a client waits in the accept queue."
            / "内核报告：全连接队列里有客户端在等。",
        listener_rearmed: "The loop re-arms the listener: the kernel reports it again if more clients wait."
            / "循环重新注册监听套接字：如果还有客户端在等，内核会再报告一次。",
        accepts: "The loop accepts clients: {count} at most in this iteration."
            / "循环接受客户端的连接：这次迭代最多 {count} 个。",
        accept_blocks: "accept would block: the accept queue is empty."
            / "accept 返回 WouldBlock：全连接队列空了。",
        accept_fails: "accept returns no client: {error}." / "accept 没有返回客户端：{error}。",
        accept_pauses: "Accepting pauses at {count} open session{s}, until a session ends or a second has passed: {error}."
            / "循环暂停接受连接，原因是：{error}。现在有 {count} 个打开的会话。等到有一个会话结束，或者过了一秒，循环再继续接受。",
        opens: "The loop accepts {name}. Its session begins." / "循环接受{name}的连接，它的会话开始。",
        connects: "The loop begins a connection to {name}. An event says when it is open."
            / "循环开始连接{name}。连接建立之后，会有一个事件来报告。",
        refuses: "The loop refuses {name}: the limit is {count} open session{s}. The client is told that the server is full."
            / "循环拒绝{name}：会话数的上限是 {count}。服务器告诉这个客户端：服务器已满。",
        closes: "The loop closes the socket of {name}: {reason}." / "循环关闭{name}的套接字：{reason}。",

        // What others ask for.
        asked_to_stop: "The server is asked to stop." / "服务器收到停止的要求。",
        asked_to_stop_now: "The server is asked to stop immediately." / "服务器收到立即停止的要求。",
        holds: "The recorder wakes the loop, and holds it before the next poll until the clients of the scene are ready."
            / "录制程序让循环醒来，并在下一次 poll 之前拦住它，直到场景里的客户端都准备好。",
        drains: "The drain begins. It ends after {time} at the latest: {count} open session{s} now."
            / "排空开始，最迟 {time} 之后结束。现在有 {count} 个打开的会话。",
        recording_ends: "The recording ends: no session is open, and the server stops."
            / "录制结束：没有打开的会话，服务器停止。",

        // A turn, and why the session gets it.
        turn: "A turn for {name}: " / "{name}得到一个回合：",
        turn_readable: "its socket is readable." / "它的套接字可读。",
        turn_writable: "its socket is writable." / "它的套接字可写。",
        turn_ready: "its socket is readable and writable." / "它的套接字可读，也可写。",
        turn_has_room: "its socket is writable. The client has read, and the kernel has room again."
            / "它的套接字可写。客户端读走了一些，内核里又有了空位。",
        turn_woken: "another session, a thread or its own budget has woken it."
            / "别的会话、某个线程或者它自己的预算唤醒了它。",
        turn_ended: "a waker ends it." / "一个唤醒器要结束它。",
        turn_stopped: "the server stops, and the session begins to drain." / "服务器停止，会话开始排空。",
        turn_late: "a time-out of it is over." / "它的一个超时到了。",

        // Calls, and what the protocol does.
        reads: "The server reads {bytes} bytes from {name}. The input buffer holds {input} bytes."
            / "服务器从{name}读到 {bytes} 字节。输入缓冲区里有 {input} 字节。",
        reads_nothing: "The {call} for {name} would block: no byte is there."
            / "对{name}调用 {call}，返回 WouldBlock：没有字节可读。",
        discards: "The server reads {bytes} bytes from {name} and discards them."
            / "服务器从{name}读到 {bytes} 字节，把它们丢掉。",
        input_ends: "A read of 0 bytes: the input of {name} has ended." / "读到 0 字节：{name}的输入结束了。",
        still_sends: " The server still sends the {output} bytes of pending output."
            / "服务器还会发完 {output} 字节的待发输出。",
        writes: "The server writes {bytes} bytes to {name}." / "服务器向{name}写出 {bytes} 字节。",
        writes_some: "The kernel takes only {bytes} bytes for {name}: the socket is full. {output} bytes of output are pending."
            / "发给{name}的输出，内核只收下 {bytes} 字节：套接字满了。待发输出还有 {output} 字节。",
        writes_nothing: "The {call} for {name} would block: the socket is full."
            / "对{name}调用 {call}，返回 WouldBlock：套接字满了。",
        nothing_pends: " No output is pending." / "没有待发输出。",
        call_fails: "The {call} for {name} fails: {error}." / "对{name}调用 {call} 失败：{error}。",
        answers: "The protocol answers {name}: pending output grows from {before} to {output} bytes."
            / "协议应答{name}：待发输出从 {before} 字节增加到 {output} 字节。",
        answers_no_more: " That is the high water mark: the server answers no more before a write."
            / "到了高水位：在下一次写之前，服务器不再应答。",
        waits: "The session of {name} waits for an answer that is made elsewhere. Meanwhile the server does not read."
            / "{name}的会话等待一个在别处产生的应答。这期间，服务器不读取这个客户端的输入。",

        // The states.
        state: "The state of {name} becomes {state}." / "{name}的状态变为 {state}。",
        becomes: "The state of {name} becomes {state}: " / "{name}的状态变为 {state}：",
        becomes_input_ended: "no more input follows, and the server answers what it has."
            / "不会再有输入，服务器应答已有的输入。",
        becomes_draining: "the server answers what the client had sent." / "服务器应答客户端此前发出的内容。",
        becomes_finishing: "the protocol has said everything, and the server writes the pending output."
            / "协议不再产生输出，服务器写出剩下的待发输出。",
        becomes_lingering: "all output is written, and the server waits for the client's end."
            / "输出已经全部写出，服务器等客户端也结束它的方向。",

        // The interest.
        asks: "The loop asks the kernel to report {name} when it is " / "循环请内核在{name}的套接字",
        asks_readable: "readable." / "可读时报告它。",
        asks_writable: "writable." / "可写时报告它。",
        asks_ready: "readable or writable." / "可读或可写时报告它。",
        asks_for_the_end: "All output for {name} is written. The loop asks the kernel to report the client's end."
            / "发给{name}的输出已经全部写出。循环请内核在客户端结束它的方向时报告。",
        rearms: "The budget of {name} for this turn is used up, and input may be left. The loop re-arms the socket, so that \
            the kernel reports it again."
            / "{name}用完了这个回合的预算，可能还有输入没读。循环重新注册它的套接字，让内核再报告一次。",
        stops_reading: "The server stops reading {name}: {output} bytes of output are pending, at or above the high water mark of \
            {high_water}. Interest is WRITABLE only. What the client sends now waits in the kernel."
            / "服务器不再读取{name}的输入：待发输出有 {output} 字节，已达到高水位 {high_water}。关注只剩 WRITABLE。客户端此后发来的数据，留在内核里等着。",
        input_waits: " {input} bytes already read wait too: the server answers them when output leaves."
            / "已经读到的 {input} 字节也要等：写出一些输出之后，服务器才应答它们。",
        reads_again: "The server reads {name} again: the client has read answers. Pending output is down to {output} bytes, \
            below the high water mark, and the input buffer has room. Interest has READABLE again."
            / "服务器又开始读取{name}的输入：客户端读走了一些应答。待发输出降到 {output} 字节，低于高水位，输入缓冲区也有空位。关注里又有了 READABLE。",
        pauses: "The session of {name} waits: Interest is WRITABLE only." / "{name}的会话在等待：关注只剩 WRITABLE。",
        goes_on: "The session of {name} goes on: the server reads its client again."
            / "{name}的会话继续：服务器又开始读取它的输入。",

        // The time-outs: their names, and what it means that one is over.
        timer_starts: "The {timer} of {name} starts: {time}." / "{name}的{timer}开始计时：{time}。",
        late: "The {timer} of {name} is over: " / "{name}的{timer}到了：",
        idle: "idle time-out" / "空闲超时",
        late_idle: "the client sent nothing for {time}." / "客户端已经 {time} 什么也没有发。",
        write: "write time-out" / "写超时",
        late_write: "no output left for {time}." / "已经 {time} 没有写出任何输出。",
        linger: "linger time-out" / "逗留超时",
        late_linger: "the client did not end for {time}." / "过了 {time}，客户端还没有结束它的方向。",
        quiet: "quiet time-out" / "静默超时",
        late_quiet: "nothing more came for {time}." / "已经 {time} 没有新的输入。",
        connect: "connect time-out" / "连接超时",
        late_connect: "the connection did not open for {time}." / "过了 {time}，连接还没有建立。",
        own: "own time-out" / "自定超时",
        late_own: "the session has set it for {time}." / "会话自己设定的 {time} 已经过去。",
        // In a reason, as in the log: idle_timeout.
        reason_timeout: " time-out" / "_timeout",
    }
}
