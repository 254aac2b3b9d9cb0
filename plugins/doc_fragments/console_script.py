# Copyright: vlab.qemu contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # A script on a serial console: of qemu_console, and of bootstrap in kinds.
    DOCUMENTATION = r"""
options:
  steps:
    description:
      - The steps of the script, in order. A step first waits for O(steps[].expect), then types,
        and then waits for O(steps[].until) or for O(prompt).
      - All patterns are regular expressions of Python, in which C(^) and C($) also match at the
        beginning and the end of lines. Most consoles end a line with a carriage return and a line
        feed, so C(text\s*$) matches a whole line, and C(text$) only what is shown last.
      - A step types one of O(steps[].send), O(steps[].secret), O(steps[].lines) and
        O(steps[].login), or nothing, and answers the questions of O(steps[].answer).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: A name of the step, for messages.
        type: str
      if_shown:
        description:
          - A pattern. Without a match in what the console has shown since the script began, the
            step is skipped.
        type: str
      unless_shown:
        description:
          - A pattern. With a match in what the console has shown since the script began, the
            step is skipped.
        type: str
      expect:
        description: A regular expression that the console must show.
        type: str
      send:
        description: The text to type.
        type: str
      secret:
        description:
          - The text to type, such as a password, that must not appear in the result or a log. Its
            echo is not awaited.
        type: str
      enter:
        description: Whether to press return after the text.
        type: bool
        default: true
      lines:
        description:
          - A configuration to type line by line. Empty lines are omitted, and tabs become spaces.
          - After each line, the step waits for O(steps[].until) or O(prompt).
        type: str
      paste:
        description:
          - Type all O(steps[].lines) without waiting after each, for systems that read a
            configuration as one text. The step then waits for O(steps[].until) only.
        type: bool
        default: false
      answer:
        description:
          - Questions and their answers. They are answered in the order in which they come, until
            the console shows O(steps[].until) or O(prompt).
          - With O(steps[].send) or O(steps[].login), the questions that follow the text, or come
            during the login.
        type: list
        elements: dict
        suboptions:
          expect:
            description: A pattern for the question.
            type: str
            required: true
          send:
            description: The text to type.
            type: str
          secret:
            description:
              - The text to type, such as a password, that must not appear in the result or a log.
            type: str
          enter:
            description: Whether to press return after the text.
            type: bool
            default: true
          once:
            description: Whether to answer the question only once in this step.
            type: bool
            default: false
      login:
        description:
          - Log in, until the console shows O(steps[].until) or O(prompt). If nothing comes, an
            empty line is typed every 10 seconds.
        type: dict
        suboptions:
          user:
            description: The name of the user.
            type: str
            required: true
          password:
            description: Password of the user. An empty one is typed as an empty line.
            type: str
          new_password:
            description:
              - The answer to O(steps[].login.change). If the system refuses
                O(steps[].login.password), this one is tried as well, as it may have been changed
                before.
            type: str
          login_prompt:
            description: A pattern for the prompt for the user name.
            type: str
            default: '(?<!Last )\blogin: *'
          password_prompt:
            description: A pattern for the prompt for the password.
            type: str
            default: '[Pp]assword: *'
          change:
            description:
              - Patterns for the prompts of a system that requires a new password, and its
                repetition.
            type: list
            elements: str
          failed:
            description: A pattern for the message of a refused login.
            type: str
            default: '[Ll]ogin incorrect|[Aa]uthentication fail'
          retry:
            description:
              - Seconds after which a refused login is tried again, for systems that show their
                prompt before they accept logins. With 0, a refusal is an error.
            type: int
            default: 0
      until:
        description:
          - A pattern that the console must show after the text; O(prompt) by default.
        type: str
      errors:
        description:
          - A pattern for a refusal, in what the console shows after the text; O(errors) by
            default. For O(steps[].answer), there is no default.
        type: str
      retry:
        description: When to type the text again.
        type: dict
        suboptions:
          when:
            description: A pattern. While the output matches, the text is typed again.
            type: str
          unless:
            description: A pattern. Until the output matches, the text is typed again.
            type: str
          every:
            description: Seconds between tries.
            type: int
            default: 5
          tries:
            description: The number of tries, after which a refusal is an error.
            type: int
            default: 30
      timeout:
        description: Seconds for this step and each try of it; O(timeout) by default.
        type: int
  timeout:
    description: Seconds for each step.
    type: int
    default: 30
  newline:
    description: The characters that the return key sends.
    type: str
    default: "\r"
  prompt:
    description:
      - A pattern for the prompt of the command line. It must match at the end of the last line of
        the console, and nothing must follow for 0.2 seconds.
      - Each step with a text waits for it. While a step waits, an empty line is typed after 10
        seconds without output, as a message may have covered the prompt.
    type: str
  errors:
    description:
      - A pattern for a refusal, in what the console shows after a text was typed.
    type: str
  echo:
    description:
      - Whether the console must show what is typed, except secrets, before return is pressed.
        Texts are typed in pieces of 100 characters, each after the echo of the one before.
      - Default is true with O(prompt).
    type: bool
"""
