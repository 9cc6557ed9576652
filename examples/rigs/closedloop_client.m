function varargout = closedloop_client(action, varargin)
% CLOSEDLOOP_CLIENT asks a session of "closedloop serve" for blocks, and tells what became of them.
%
%   c = closedloop_client('open', '127.0.0.1', 5580, token);   % token: '' for none
%   block = closedloop_client('ask', c);                       % [] when the session is over
%   image = closedloop_client('image', block, k);              % uint8 height x width x 3, k from 1
%   closedloop_client('tell', c, block, trials);               % returns when it is written down
%   s = closedloop_client('status', c);                        % s.told, s.pending, s.over
%
% block.trials(i).trial is the name of a presentation, block.trials(i).image + 1 the image that it shows. trials is a
% struct array, or a cell array of structs, with the fields trial, status ('ok', 'fixation_break', 'artifact', 'dropped_frame', 'aborted',
% 'not_shown') and counts, a row with a number for each unit. What is left out was not shown.
%
% MATLAB R2020b or later; Octave 7 or later with the package instrument-control. If MATLAB dies: open and ask again.
  switch action
    case 'open'
      varargout{1} = open_session(varargin{:});
    case 'ask'
      varargout{1} = ask(varargin{1});
    case 'image'
      varargout{1} = image_of(varargin{1}, varargin{2});
    case 'tell'
      tell(varargin{:});
    case 'status'
      varargout{1} = exchange(varargin{1}, struct('type', 'status'));
    otherwise
      error('closedloop:action', 'expected open, ask, image, tell or status, got %s', action);
  end
end

function c = open_session(host, port, token)
  if nargin < 3
    token = '';
  end
  if exist('OCTAVE_VERSION', 'builtin')
    pkg load instrument-control
  end
  c = tcpclient(host, port);
  name = sprintf('matlab-%.0f-%.0f', now * 86400e3, rand * 1e9);
  exchange(c, struct('type', 'hello', 'proto', 'closedloop-serve/1', 'client', name, 'token', token));
end

function block = ask(c)
  while true
    block = exchange(c, struct('type', 'ask', 'wait_s', 5, 'encoding', 'rgb8'));
    if strcmp(block.type, 'over')
      block = [];
      return
    elseif strcmp(block.type, 'block')
      return
    end
  end
end

function rgb = image_of(block, k)
  entry = block.images(k);
  bytes = matlab.net.base64decode(entry.data);
  rgb = permute(reshape(uint8(bytes), [3, entry.width, entry.height]), [3, 2, 1]);
end

function tell(c, block, trials)
  entries = cell(1, numel(trials));
  for i = 1:numel(trials)
    if iscell(trials)
      one = trials{i};
    else
      one = trials(i);
    end
    if isfield(one, 'counts') && isempty(one.counts)
      one = rmfield(one, 'counts');            % left open in a struct array: a trial that was lost
    elseif isfield(one, 'counts')
      one.counts = num2cell(one.counts(:)');   % a list, also for a single unit
    end
    entries{i} = one;
  end
  said = struct('type', 'tell', 'block', block.block, 'attempt', block.attempt);
  said.trials = entries;
  exchange(c, said);
end

function got = exchange(c, asked)
  write(c, uint8([jsonencode(asked), char(10)]));
  pieces = {};
  started = now;
  while true
    waiting = c.NumBytesAvailable;
    if waiting == 0
      if (now - started) * 86400 > 620
        error('closedloop:gone', 'the session has gone');
      end
      pause(0.005);
      continue
    end
    piece = uint8(read(c, waiting));
    pieces{end + 1} = piece(:)'; %#ok<AGROW>
    if piece(end) == 10
      break
    end
  end
  got = jsondecode(char([pieces{:}]));
  if strcmp(got.type, 'error')
    error(['closedloop:' got.code], '%s', got.text);
  end
end
