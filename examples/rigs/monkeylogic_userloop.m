function [C, timingfile, userdefined_trialholder] = monkeylogic_userloop(MLConfig, TrialRecord)
% MONKEYLOGIC_USERLOOP shows the blocks of "closedloop serve" by NIMH MonkeyLogic, ten images a trial.
%
% Each trial shows up to PER_TRIAL images by the timing file closedloop_timing.m, which leaves the names of what was shown
% in TrialRecord.User.shown and the responses in TrialRecord.User.counts (images x units), by whatever reads the spikes.
% A broken fixation (TrialRecord.TrialErrors 3 or 4) is told as fixation_break, what else was not shown as not_shown: the
% session shows these images again. Images are as wide as the session asks for (size_deg), by MLConfig.PixelsPerDegree.
  persistent session block place trials
  PER_TRIAL = 10;
  C = [];
  timingfile = 'closedloop_timing.m';
  userdefined_trialholder = '';
  if TrialRecord.CurrentTrialNumber == 0 && isempty(session)   % MonkeyLogic calls once before the first trial
    settings = TrialRecord.User.closedloop;                    % host, port, token
    session = closedloop_client('open', settings.host, settings.port, settings.token);
    place = 0;
    return
  end
  if ~isempty(block) && place > 0                              % what became of the trial before
    names = TrialRecord.User.asked;
    broken = ~isempty(TrialRecord.TrialErrors) && any(TrialRecord.TrialErrors(end) == [3 4]);
    for i = 1:numel(names)
      if any(strcmp(names{i}, TrialRecord.User.shown))
        one = struct('trial', names{i}, 'status', 'ok', 'counts', TrialRecord.User.counts(i, :));
      elseif broken
        one = struct('trial', names{i}, 'status', 'fixation_break');
      else                                                     % any other error: no response, aborted
        one = struct('trial', names{i}, 'status', 'not_shown');
      end
      trials{end + 1} = one; %#ok<AGROW>
    end
  end
  if ~isempty(block) && place >= numel(block.trials)           % the block is over
    closedloop_client('tell', session, block, trials);
    block = [];
  end
  if isempty(block)
    block = closedloop_client('ask', session);
    place = 0;
    trials = {};
    if isempty(block)                                          % the session is over
      TrialRecord.Quit = true;
      return
    end
  end
  last = min(place + PER_TRIAL, numel(block.trials));
  C = cell(1, last - place);
  asked = cell(1, last - place);
  at = block.show.position_deg;
  if isempty(at)
    at = [0 0];
  end
  width = '';                                                  % in pixels of the screen; '' for those of the image
  if ~isempty(block.show.size_deg)
    width = sprintf(',%d,%d', round(block.show.size_deg * MLConfig.PixelsPerDegree(1)) * [1 1]);
  end
  for i = place + 1:last
    rgb = closedloop_client('image', block, block.trials(i).image + 1);
    file = fullfile(tempdir, sprintf('closedloop-%02d.png', i - place));
    imwrite(rgb, file);
    C{i - place} = sprintf('pic(%s,%g,%g%s)', file, at(1), at(2), width);
    asked{i - place} = block.trials(i).trial;
  end
  TrialRecord.User.asked = asked;
  TrialRecord.User.shown = {};
  place = last;
end
